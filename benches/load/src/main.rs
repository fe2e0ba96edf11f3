//! `ctedge-load`: drives a server or a balancer, checks every answer, and says what it cost.
//!
//! One thread does everything, so that a run on a core of its own disturbs the server on another as little as possible.
//! The exit code is 0 when everything was accounted for, 1 when anything was lost, doubled or misrouted, and 2 when the run
//! could not be made.

mod arguments;
mod backend;
mod channel;
mod endpoint;
mod frame;
mod http;
mod http1;
mod http2;
mod keys;
mod measure;
mod pace;
mod processes;
mod relay;
mod report;
mod stream;
mod tls;
mod tunnel;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::report::Report;

/// Drives servers and balancers under load, and accounts for every answer
#[derive(Debug, Parser)]
#[command(name = "ctedge-load", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Requests with many keys, each of which one node must always answer
    Http(http::HttpArguments),
    /// WebSocket echo round trips over many tunnels, or tunnels that are merely open
    Tunnel(tunnel::TunnelArguments),
    /// Rooms of peers that broadcast to each other over the Open Collaboration Protocol
    Relay(relay::RelayArguments),
    /// No load: cheap nodes to put behind a balancer
    Backend(backend::BackendArguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("ctedge-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    allow_many_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (report, json) = match arguments.scenario {
            Scenario::Http(arguments) => (http::run(arguments.clone()).await?, arguments.common.json),
            Scenario::Tunnel(arguments) => (tunnel::run(arguments.clone()).await?, arguments.common.json),
            Scenario::Relay(arguments) => (relay::run(arguments.clone()).await?, arguments.common.json),
            Scenario::Backend(arguments) => return backend::run(arguments).await.map(|()| true),
        };
        print(&report, json)?;
        Ok(report.is_clean())
    })
}

fn print(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

/// Every connection is a file; the soft limit is often 1,024.
fn allow_many_files() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
