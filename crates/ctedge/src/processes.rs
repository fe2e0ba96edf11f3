//! `ctedge list`, `start`, `stop` and `restart`: the commands that ask the supervisor of this machine's processes.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use ctedge_supervisor::Process;
use ctedge_supervisor::control::client::NoEdge;
use ctedge_supervisor::control::{Command, client, socket_of};
use serde_json::{Value, json};

use crate::arguments::{AdminOptions, ProcessOptions};
use crate::operator;
use crate::table::table;

/// The data folder of an edge that was told nothing else.
const DEFAULT_DATA: &str = "ctedge-data";

/// `ctedge list`
pub(crate) fn list(options: &ProcessOptions) -> anyhow::Result<ExitCode> {
    let processes = client::give(&data_folder(options)?, &Command::List, |_| {})?;
    let text = if options.admin.json { json_text(&processes) } else { listed(&processes) };
    // Whoever reads may stop reading, like `head`.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// `ctedge start`, `stop` and `restart`. Prints how far it is.
pub(crate) fn change(command: Command, options: &ProcessOptions) -> anyhow::Result<ExitCode> {
    let is_json = options.admin.json;
    let tell = |line: &str| {
        // What a program reads from stdout is the answer alone.
        let _ = if is_json { writeln!(std::io::stderr(), "{line}") } else { writeln!(std::io::stdout(), "{line}") };
    };
    let given = data_folder(options).and_then(|data| match &command {
        Command::Stop { name: None } => client::stop(&data, tell),
        command => client::give(&data, command, tell),
    });
    let processes = match (&command, given) {
        (Command::Start { .. }, Err(error)) if error.is::<NoEdge>() => {
            return Err(error.context("`ctedge start` starts processes of an edge that runs, and not the edge itself"));
        }
        (_, given) => given?,
    };
    let last = match command {
        Command::Restart { .. } => "done".to_owned(),
        Command::Stop { name: None } => format!("the edge has stopped. {}", client::HOW_TO_START),
        _ => String::new(),
    };
    if is_json {
        let _ = std::io::stdout().write_all(json_text(&processes).as_bytes());
    } else if !last.is_empty() {
        tell(&last);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the supervisor's socket is: where the operator says, or else the balancer.
fn data_folder(options: &ProcessOptions) -> anyhow::Result<PathBuf> {
    if let Some(data) = &options.data {
        return Ok(data.clone());
    }
    let status = operator::ask_status(&options.admin);
    let default = PathBuf::from(DEFAULT_DATA);
    match status {
        Ok(status) => named_by(&status, &options.admin),
        // The balancer may be what has stopped.
        Err(_) if socket_of(&default).exists() => Ok(default),
        Err(error) => Err(error.context(format!(
            "where are the processes? --data names their data folder. If none run: {}",
            client::HOW_TO_START
        ))),
    }
}

/// The data folder that a balancer's status names. Fails for a balancer that nobody supervises.
pub(crate) fn named_by(status: &Value, admin: &AdminOptions) -> anyhow::Result<PathBuf> {
    data_of(status)?.with_context(|| {
        format!(
            "the balancer at {} was not started by `ctedge up`: what started it and its nodes restarts them; to hand the sessions \
             of a node over before, use `ctedge drain NODE --now --wait`",
            admin.admin
        )
    })
}

/// The data folder of the supervisor that a balancer's status names, if it names one.
pub(crate) fn data_of(status: &Value) -> anyhow::Result<Option<PathBuf>> {
    let Some(socket) = status["balancer"]["control_socket"].as_str().map(PathBuf::from) else { return Ok(None) };
    if !socket.exists() {
        bail!(
            "the processes of this edge are not on this machine, or not for this user to see: run the command where \
             {} is, as the user who runs the edge",
            socket.display()
        );
    }
    // `DATA/run/control.sock`
    Ok(socket.ancestors().nth(2).map(PathBuf::from))
}

fn json_text(processes: &[Process]) -> String {
    format!("{:#}\n", json!({ "processes": processes }))
}

fn listed(processes: &[Process]) -> String {
    let head = ["INDEX", "UID", "COMMAND", "PID", "LOGFILE", "UPTIME", "STATE", "DEATHS"];
    let row = |process: &Process| {
        vec![
            format!("[{}]", process.index),
            process.uid.clone(),
            one_word(&process.command),
            process.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            process.log_file.display().to_string(),
            process.uptime.clone().unwrap_or_else(|| "-".to_owned()),
            process.state.clone(),
            process.deaths.to_string(),
        ]
    };
    table(&head, &processes.iter().map(row).collect::<Vec<_>>())
}

/// A command without its spaces, so that programs which go by columns find each where the head has it.
fn one_word(command: &str) -> String {
    command.split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_a_process_with_its_uptime() {
        let process = |index, uid: &str, pid, uptime: Option<&str>, state: &str| Process {
            index,
            uid: uid.into(),
            command: "ctedge node".into(),
            pid,
            log_file: format!("/data/logs/{uid}.log").into(),
            uptime: uptime.map(str::to_owned),
            uptime_ms: None,
            state: state.into(),
            deaths: 0,
        };
        let processes = [
            process(0, "node-1", Some(4711), Some("2:15:37:49.537"), "running"),
            process(1, "node-2", None, None, "drained"),
        ];
        let expected = "INDEX  UID     COMMAND       PID  LOGFILE                 UPTIME          STATE    DEATHS\n\
                        [0]    node-1  ctedge-node  4711  /data/logs/node-1.log  2:15:37:49.537  running       0\n\
                        [1]    node-2  ctedge-node     -  /data/logs/node-2.log  -               drained       0\n";
        let expected = expected.replace("LOGFILE                 UPTIME", "LOGFILE                UPTIME");
        assert_eq!(listed(&processes), expected);
        for line in listed(&processes).lines() {
            assert_eq!(line.split_whitespace().count(), 8, "{line}");
        }
    }

    #[test]
    fn a_balancer_that_nobody_supervises_and_one_of_another_machine_are_told_apart() {
        let admin = AdminOptions { admin: "127.0.0.1:1090".parse().unwrap(), admin_token: None, json: false };
        let error = named_by(&json!({"balancer": {}}), &admin).unwrap_err().to_string();
        assert!(error.contains("was not started by `ctedge up`"), "{error}");
        let far = json!({"balancer": {"control_socket": "/nowhere/data/run/control.sock"}});
        let error = named_by(&far, &admin).unwrap_err().to_string();
        assert!(error.contains("where /nowhere/data/run/control.sock is"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        let socket = socket_of(folder.path());
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        std::fs::write(&socket, "").unwrap();
        let near = json!({"balancer": {"control_socket": socket}});
        assert_eq!(named_by(&near, &admin).unwrap(), folder.path());
    }
}
