//! `ctedge-load`: drives a server or a balancer, checks every answer, and says what it cost.
//!
//! One thread does everything, so that a run on a core of its own disturbs the server on another as little as possible.
//! The exit code is 0 when everything was accounted for, 1 when anything was lost, doubled or misrouted, and 2 when the run
//! could not be made.

mod arguments;
mod channel;
mod endpoint;
mod frame;
mod http1;
mod pace;
mod processes;
mod relay;
mod report;
mod stream;
mod tls;

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
    /// Rooms of peers that broadcast to each other over the Open Collaboration Protocol
    Relay(relay::RelayArguments),
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
    let local = tokio::task::LocalSet::new();
    let (report, json) = local.block_on(&runtime, async {
        anyhow::Ok(match arguments.scenario {
            Scenario::Relay(arguments) => {
                let json = arguments.json();
                (relay::run(arguments).await?, json)
            }
        })
    })?;
    print(&report, json)?;
    Ok(report.is_clean())
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
