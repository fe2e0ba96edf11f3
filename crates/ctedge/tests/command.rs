//! The command as a process: what it prints, and how it exits.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

fn ctedge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ctedge")).args(arguments).env_remove("CT_SERVER_URL").output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_printed_default_file_has_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ctedge.toml");
    fs::write(&file, ctedge(&["default-config"]).stdout).unwrap();
    let output = ctedge(&["check-config", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("has no fault"));
}

#[test]
fn a_wrong_file_shows_all_its_faults_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    fs::write(&file, "[balancer]\nhttp = 80\nhttpz = \"\"\n").unwrap();
    let output = ctedge(&["check-config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("line 2: balancer.http:") && text.contains("line 3: balancer.httpz:"), "{text}");
}

/// What `check-config` says of a file without a setting when this variable is set.
fn checked_with(name: &str, value: impl AsRef<OsStr>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ctedge.toml");
    fs::write(&file, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctedge"));
    command.args(["check-config", file.to_str().unwrap()]).env_clear().env(name, value).output().unwrap()
}

#[test]
fn a_wrong_variable_of_the_process_is_one_line_that_names_it() {
    for (name, value, line) in [
        (
            "CT_PROMETHEUS_ENABLED",
            "maybe",
            "\n  CT_PROMETHEUS_ENABLED: metrics.prometheus: \"maybe\" is not true or false",
        ),
        ("CT_TIME_ZONE", "Mars", "\n  CT_TIME_ZONE: log.time_zone: \"Mars\" is no time zone; write one like"),
        ("CT_LOGS_PASSWORD", "x", "\n  CT_LOGS_PASSWORD: portal.logs_password: needs portal.logs_user (CT_LOGS_USER)"),
    ] {
        let output = checked_with(name, value);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(stderr(&output).contains(line), "{}", stderr(&output));
        assert!(stderr(&output).contains("has 1 fault:"), "{}", stderr(&output));
    }
    for name in ctedge_settings::variables() {
        let output = checked_with(name, OsStr::from_bytes(b"\xff"));
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(stderr(&output).contains(&format!("{name}: its value is not UTF-8")), "{}", stderr(&output));
    }
}

#[test]
fn a_missing_file_is_named() {
    let output = ctedge(&["check-config", "/no/such/file.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot read the settings file /no/such/file.toml"), "{}", stderr(&output));
}

#[test]
fn a_wrong_command_line_exits_with_two() {
    assert_eq!(ctedge(&["up", "--nodes", "many"]).status.code(), Some(2));
    assert_eq!(ctedge(&[]).status.code(), Some(2));
}

#[test]
fn a_taken_port_is_named_with_its_option() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    let output = ctedge(&["up", "--data", data.to_str().unwrap(), "--http", &address, "--https", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&address) && text.contains("--http"), "{text}");
}

#[test]
fn an_operator_is_told_when_no_balancer_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output = ctedge(&["status", "--admin", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&format!("nothing answers at the admin address {address}")),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_role_without_its_secret_says_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    let text = format!(
        "data = {:?}\n[[nodes]]\nid = \"a\"\naddress = \"127.0.0.1:3001\"\n",
        folder.path().join("data").to_str().unwrap()
    );
    fs::write(&file, text).unwrap();
    let output = ctedge(&["node", "--config", file.to_str().unwrap(), "--id", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot read the cluster secret"), "{}", stderr(&output));
}
