//! Nodes whose process is stopped, and goes on.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

use super::{back, ends, ids, let_in, pair_written};
use crate::client::soon;
use crate::room::{LOST_AFTER, Room};

/// Names the folder of the store to the process of a node.
const FOLDER: &str = "CTEDGE_TEST_FOLDER";

#[tokio::test]
#[ignore = "the process of a node that another test starts"]
async fn a_node_in_a_process_of_its_own() {
    let room = Room::sharing(Path::new(&std::env::var(FOLDER).unwrap()), "frozen").await;
    println!("\nlistens at {}", room.address);
    // The other test has the other end of this.
    let _ = tokio::io::stdin().read_u8().await;
}

/// Starts a node in a process of its own. `room` speaks to it from then on.
async fn start(folder: &Path, room: &mut Room) -> Child {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sharing::frozen::a_node_in_a_process_of_its_own", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = async {
        loop {
            if let Some(address) = lines.next_line().await.unwrap().unwrap().strip_prefix("listens at ") {
                return address.parse().unwrap();
            }
        }
    };
    room.address = soon(address).await;
    child
}

async fn signal(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

/// Stops every thread of a node's process, which does not hold the lock of its store then.
async fn stop(child: &Child, folder: &Path) {
    loop {
        stop_threads(child).await;
        let options = SqliteConnectOptions::new().filename(folder.join("ctedge.db"));
        let mut store = options.busy_timeout(Duration::from_millis(100)).connect().await.unwrap();
        if sqlx::query("BEGIN IMMEDIATE").execute(&mut store).await.is_ok() {
            return;
        }
        signal(child, "-CONT").await;
    }
}

/// The last one stops a moment after the signal.
async fn stop_threads(child: &Child) {
    signal(child, "-STOP").await;
    let tasks = format!("/proc/{}/task", child.id().unwrap());
    let is_stopped = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let stopping = async {
        while !std::fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap())) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(stopping).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_for_a_while_relays_nothing_and_lets_go() {
    let folder = TempDir::new().unwrap();
    let second = Room::sharing(folder.path(), "b").await;
    let mut first = Room::start().await;
    let child = start(folder.path(), &mut first).await;
    let (mut host, mut guest) = first.pair().await;
    let before = ids([&host, &guest]);
    pair_written(folder.path()).await;

    stop(&child, folder.path()).await;
    // This waits in the socket for the node to go on.
    host.send(b"to a session that is not there any more", &[&guest.peer_id]).await;
    let host_again = let_in(&second, &second.host_token()).await;
    let guest_again = back(&second, &second.guest_token(1)).await;
    assert_eq!(ids([&host_again, &guest_again]), before);

    signal(&child, "-CONT").await;
    assert_eq!(ends(&mut guest).await, Vec::<Vec<u8>>::new());
    assert_eq!(ends(&mut host).await, Vec::<Vec<u8>>::new());
    let is_empty = async {
        while first.health().await.sessions > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(is_empty).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_for_a_moment_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut room = Room::start().await;
    let child = start(folder.path(), &mut room).await;
    let (mut host, mut guest) = room.pair().await;
    stop(&child, folder.path()).await;
    host.send(b"late, but here", &[&guest.peer_id]).await;
    // Nobody else is there who could have missed it.
    tokio::time::sleep(2 * LOST_AFTER).await;
    signal(&child, "-CONT").await;
    assert_eq!(guest.broadcast().await, b"late, but here");
}
