//! The `ctedge` command: a subcommand per role, and the tools of their operator.
//!
//! - `arguments`: the command line.
//! - `settings_file`: reading the settings file and the environment; nothing else in this workspace reads either.
//! - `up`, `balancer`, `node`: the roles.
//! - `check`: `check-config` and `default-config`.
//! - `operator`, `table`: the commands that ask a running balancer.

mod arguments;
mod balancer;
mod check;
mod node;
mod operator;
mod process;
mod settings_file;
mod table;
mod up;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

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
        Command::Drain { node, admin } => operator::change(&node, "drain", &admin),
        Command::Suspend { node, admin } => operator::change(&node, "suspend", &admin),
        Command::Resume { node, admin } => operator::change(&node, "resume", &admin),
        Command::Reload(admin) => operator::reload(&admin),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ctedge: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
