//! The `ctedge` command: a subcommand per role, and the tools of their operator.
//!
//! - `arguments`: the command line.
//! - `settings_file`: reading the settings file and the environment; nothing else in this workspace reads either.
//! - `up`, `balancer`, `node`: the roles.
//! - `place`: which edge of this machine a command is about.
//! - `clients`: what the edge offers for download.
//! - `portal`: the pages for people, mounted in a node.
//! - `check`: `check-config` and `default-config`.
//! - `doctor`: what is wrong with a deployment.
//! - `license`: keys and licenses.
//! - `versions`: which versions of this program there are.
//! - `reload`: the settings, read again by whoever runs.
//! - `operator`, `drain`, `table`: the commands that ask a running balancer.
//! - `processes`: the commands that ask a supervisor; `leases`: what it tells the store.

#![forbid(unsafe_code)]

mod arguments;
mod balancer;
mod check;
mod clients;
mod doctor;
mod drain;
mod leases;
mod license;
mod node;
mod operator;
mod place;
mod portal;
mod process;
mod processes;
mod reload;
mod settings_file;
mod table;
mod up;
mod versions;

use std::process::ExitCode;

use arguments::{Arguments, Command, PlanCommand};
use clap::Parser;
use ctedge_supervisor::control;

/// What was asked for cannot be done; the reason stands on stderr.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Up(options) => up::run(options),
        Command::Balancer(options) => balancer::run(options),
        Command::Node(options) => node::run(options),
        Command::CheckConfig { file } => check::check_config(&file),
        Command::DefaultConfig => check::default_config(),
        Command::Status(admin) => operator::status(&admin),
        Command::Explain { key, admin } => operator::explain(&key, &admin),
        Command::Drain { node, drain, admin } => drain::drain(&node, &drain, &admin),
        Command::Plan(PlanCommand::Drain { node, admin }) => drain::plan(&node, &admin),
        Command::Suspend { node, admin } => operator::change(&node, "suspend", &admin),
        Command::Resume { node, admin } => operator::change(&node, "resume", &admin),
        Command::Reload(admin) => reload::reload(&admin),
        Command::List(options) => processes::list(&options),
        Command::Start { name, processes } => processes::change(control::Command::Start { name }, &processes),
        Command::Stop { name, processes } => processes::change(control::Command::Stop { name }, &processes),
        Command::Restart { name, processes } => processes::change(control::Command::Restart { name }, &processes),
        Command::Clients(command) => clients::run(command),
        Command::Versions(options) => versions::run(options),
        Command::Doctor(options) => doctor::run(options),
        Command::License(command) => license::run(command),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ctedge: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
