//! `ctedge up` as an operator sees it: real processes on free ports.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// Far above what anything takes, so that a loaded machine fails no test.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running `ctedge up`. Stops it when dropped.
struct Edge {
    process: Child,
    lines: Receiver<String>,
    log: Receiver<String>,
    admin: String,
    data: PathBuf,
}

impl Edge {
    /// Starts an edge whose settings are `text` and free ports, and waits until it is ready.
    fn start(folder: &Path, text: &str) -> Self {
        let mut edge = Self::spawn(folder, text);
        edge.wait_for_line("ready");
        edge
    }

    fn spawn(folder: &Path, text: &str) -> Self {
        let (file, data) = (folder.join("ctedge.toml"), folder.join("data"));
        fs::write(&file, text).unwrap();
        let mut process = command()
            .args(["up", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--node-base-port", "0"])
            .arg("--config")
            .arg(&file)
            .arg("--data")
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(process.stdout.take().unwrap());
        let log = lines_of(process.stderr.take().unwrap());
        Self { process, lines, log, admin: String::new(), data }
    }

    /// Reads what the edge says until `wanted`.
    fn wait_for_line(&mut self, wanted: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no {wanted:?} after {said:#?}"));
            if let Some(admin) = line.trim().strip_prefix("admin  http://") {
                self.admin = admin.to_owned();
            }
            if line == wanted {
                return said;
            }
            said.push(line);
        }
    }

    /// Reads the edge's log until a line that contains `wanted`.
    fn wait_for_log(&self, wanted: &str) {
        while !self.log.recv_timeout(DEADLINE).expect("the log has the line").contains(wanted) {}
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        command().args(arguments).args(["--admin", &self.admin]).output().unwrap()
    }

    fn nodes(&self) -> Vec<Value> {
        let output = self.ask(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        nodes.into_iter().filter(|node| node["listed"] == true).collect()
    }

    /// Waits until the status shows exactly `ids`, all of them ready.
    fn wait_for_nodes(&self, ids: &[&str]) -> Vec<Value> {
        wait_for(|| {
            let nodes = self.nodes();
            let mut ready: Vec<_> = nodes.iter().filter(|node| node["state"] == "ready").collect();
            ready.sort_by_key(|node| node["id"].as_str().map(str::to_owned));
            let is_so = nodes.len() == ids.len()
                && ready.iter().map(|node| node["id"].as_str()).eq(ids.iter().copied().map(Some));
            is_so.then_some(nodes)
        })
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait_for(|| self.process.try_wait().unwrap())
    }

    /// Process ids of all children, from their pid files.
    fn children(&self) -> Vec<Pid> {
        let files = fs::read_dir(self.data.join("run")).unwrap().map(|entry| entry.unwrap().path());
        let pids = files.filter(|path| path.extension().is_some_and(|extension| extension == "pid"));
        pids.map(|path| pid_in(&path).unwrap()).collect()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.signal(Signal::TERM);
            let _ = self.process.wait();
        }
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    let stream = BufReader::new(stream);
    std::thread::spawn(move || stream.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    lines
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctedge"));
    command.env_remove("CT_SERVER_URL").env_remove("CTEDGE_ADMIN_TOKEN");
    command
}

fn pid_in(file: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(file).ok()?.split(' ').next()?.parse().ok()?)
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    test_kill_process(pid).is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn an_edge_says_where_it_is_serves_and_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut edge = Edge::spawn(folder.path(), "[up]\nnodes = 2\n");
    let said = edge.wait_for_line("ready");
    for word in ["  http   http://127.0.0.1:", "  https  https://127.0.0.1:", "  admin  http://127.0.0.1:"] {
        assert!(said.iter().any(|line| line.starts_with(word)), "{word:?} is missing in {said:#?}");
    }
    edge.wait_for_nodes(&["node-1", "node-2"]);
    let explained = edge.ask(&["explain", "room", "--json"]);
    let explanation: Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explanation["key"], "room");
    assert!(explanation["node"].as_str().is_some_and(|node| node.starts_with("node-")), "{explanation:#}");
    assert!(explanation["reason"].is_string(), "{explanation:#}");

    let children = edge.children();
    assert_eq!(children.len(), 3);
    let data = edge.data.clone();
    assert!(edge.stop().success());
    assert!(children.into_iter().all(is_gone), "children outlived their supervisor");
    assert!(!fs::read_dir(data.join("run")).unwrap().any(|entry| entry.unwrap().path().ends_with(".pid")));
}

#[test]
fn a_second_supervisor_of_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(folder.path(), "[up]\nnodes = 1\n");
    let second = command().arg("up").arg("--data").arg(&edge.data).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains(&format!("process {}", edge.process.id())), "{text}");
}

#[test]
fn a_node_that_dies_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(folder.path(), "[up]\nnodes = 2\n");
    let file = edge.data.join("run/node-1.pid");
    let before = pid_in(&file).unwrap();
    kill_process(before, Signal::KILL).unwrap();
    let after = wait_for(|| pid_in(&file).filter(|pid| *pid != before));
    wait_for(|| edge.nodes().iter().any(|node| node["pid"] == after.as_raw_nonzero().get()).then_some(()));
    edge.wait_for_nodes(&["node-1", "node-2"]);
}

#[test]
fn a_balancer_that_dies_comes_back_on_the_same_ports() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(folder.path(), "[up]\nnodes = 1\n");
    let file = edge.data.join("run/balancer.pid");
    let before = pid_in(&file).unwrap();
    kill_process(before, Signal::KILL).unwrap();
    wait_for(|| pid_in(&file).filter(|pid| *pid != before));
    edge.wait_for_nodes(&["node-1"]);
}

#[test]
fn a_change_of_the_file_adds_and_removes_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(folder.path(), "[up]\nnodes = 1\n");
    let file = folder.path().join("ctedge.toml");
    fs::write(&file, "[up]\nnodes = 3\n").unwrap();
    edge.signal(Signal::HUP);
    edge.wait_for_nodes(&["node-1", "node-2", "node-3"]);

    let third = pid_in(&edge.data.join("run/node-3.pid")).unwrap();
    // Without a signal: the change itself is enough.
    fs::write(&file, "[up]\nnodes = 2\n").unwrap();
    edge.wait_for_nodes(&["node-1", "node-2"]);
    wait_for(|| is_gone(third).then_some(()));
}

#[test]
fn a_wrong_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(folder.path(), "[up]\nnodes = 1\n");
    let before = fs::read_to_string(edge.data.join("run/ctedge.toml")).unwrap();
    fs::write(folder.path().join("ctedge.toml"), "[up]\nnodes = 1000\n").unwrap();
    edge.signal(Signal::HUP);
    edge.wait_for_log("line 2: up.nodes: 1000 is not from 0 to 64");
    assert_eq!(fs::read_to_string(edge.data.join("run/ctedge.toml")).unwrap(), before);
    edge.wait_for_nodes(&["node-1"]);
}

#[test]
fn the_access_log_is_opened_again_after_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let edge = Edge::start(folder.path(), "[up]\nnodes = 1\n");
    let log = edge.data.join("logs/access.log");
    wait_for(|| log.exists().then_some(()));
    fs::rename(&log, log.with_extension("log.1")).unwrap();
    edge.signal(Signal::USR1);
    wait_for(|| log.exists().then_some(()));
}

#[test]
fn children_stop_when_their_supervisor_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut edge = Edge::start(folder.path(), "[up]\nnodes = 2\n");
    let children = edge.children();
    edge.process.kill().unwrap();
    edge.process.wait().unwrap();
    wait_for(|| children.iter().all(|child| is_gone(*child)).then_some(()));
}

#[test]
fn a_supervisor_that_is_started_over_a_dead_ones_leftovers_cleans_them_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut edge = Edge::start(folder.path(), "[up]\nnodes = 2\n");
    let children = edge.children();
    edge.process.kill().unwrap();
    edge.process.wait().unwrap();
    // At once, while they may still be saying goodbye.
    let next = Edge::start(folder.path(), "[up]\nnodes = 2\n");
    assert!(children.into_iter().all(is_gone), "a child outlived two supervisors");
    assert!(next.stop().success());
}
