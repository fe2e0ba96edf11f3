//! The command as a process: what it prints, and how it exits.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::fs;
use std::net::TcpListener;
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
