//! `ctedge-load`: drives a server or a balancer, checks every answer, and says what it cost.
//!
//! One thread does everything, so that a run on a core of its own disturbs the server on another as little as possible.
//! The exit code is 0 when everything was accounted for, 1 when anything was lost, doubled or misrouted, and 2 when the run
//! could not be made.

mod arguments;
mod backend;
mod channel;
mod churn;
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
    /// Sessions with messages while nodes are added, drained and killed
    Churn(churn::ChurnArguments),
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
        let Some((report, json)) = arguments.scenario.run().await? else { return Ok(true) };
        print(&report, json)?;
        Ok(report.is_clean())
    })
}

impl Scenario {
    /// What was found, and whether JSON is wanted.
    async fn run(self) -> Result<Option<(Report, bool)>> {
        Ok(Some(match self {
            Self::Http(arguments) => (http::run(arguments.clone()).await?, arguments.common.json),
            Self::Tunnel(arguments) => (tunnel::run(arguments.clone()).await?, arguments.common.json),
            Self::Relay(arguments) => (relay::run(arguments.clone()).await?, arguments.common.json),
            Self::Churn(arguments) => (churn::run(arguments.clone()).await?, arguments.common.json),
            Self::Backend(arguments) => return backend::run(arguments).await.map(|()| None),
        }))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one scenario against the backend and gives its report.
    fn report_of(command_line: &str) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let address = backend::spawn("only").await;
            let command_line = command_line.replace("URL", &format!("--url http://{address}"));
            let arguments = Arguments::parse_from(std::iter::once("ctedge-load").chain(command_line.split(' ')));
            arguments.scenario.run().await.unwrap().unwrap().0
        })
    }

    #[test]
    fn requests_are_answered_and_their_node_is_known() {
        for options in ["", " --new-connections", " --rate 500", " --key-via query"] {
            let report = report_of(&format!(
                "http URL/bytes/9000 --expect-bytes 9000 --keys 20 --requests 100 --warmup 0{options}"
            ));
            assert!(report.is_clean(), "{options}: {}", report.text());
            assert_eq!((report.counts["answered"], report.nodes["only"]), (100, 20), "{options}");
        }
    }

    #[test]
    fn an_answer_of_another_length_or_status_is_a_fault() {
        let report = report_of("http URL/bytes/9000 --expect-bytes 9001 --requests 10 --warmup 0");
        assert_eq!(report.faults["wrong length"], 10);
        let report = report_of("http URL/ --expect-status 404 --requests 10 --warmup 0");
        assert_eq!(report.faults["wrong status"], 10);
    }

    #[test]
    fn tunnels_echo_in_a_closed_loop_by_a_schedule_and_after_rest() {
        for options in ["--in-flight 3", "--rate 50", "--idle", "--size 70000"] {
            let report = report_of(&format!("tunnel URL/ --tunnels 4 --warmup 0 --duration 0.2 {options}"));
            assert!(report.is_clean(), "{options}: {}", report.text());
            assert!(report.counts["echoed"] >= 4, "{options}");
        }
    }

    #[test]
    fn our_own_cost_is_read_from_the_running_processes() {
        let pid = std::process::id();
        let report = report_of(&format!("tunnel URL/ --tunnels 4 --warmup 0 --duration 0.5 --pid {pid}"));
        assert!(report.server_cpu.unwrap().total_us > 0.0 && report.memory.is_some());
    }
}
