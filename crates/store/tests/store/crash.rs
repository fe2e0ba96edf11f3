//! `kill -9` of a process that writes: the file stays whole, and what was answered is in it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use ctedge_ownership::Epoch;
use ctedge_store::{Command, Entry, LeaseEnd, Outcome, Store, StoreUrl};

use crate::support::{Place, connection, created, key, lease, peer, registered, settings};

/// Names the file to the process that writes.
const FILE: &str = "CTEDGE_TEST_CRASH_FILE";

/// The process that writes: this test's own program, told to run nothing but this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as a process of its own, for the test below"]
async fn writer() {
    let Ok(file) = std::env::var(FILE) else { return };
    let store = Store::open(&settings(StoreUrl::Sqlite(file.into()))).await.unwrap();
    let by = registered(&store, "writer", 1).await;
    for number in 0.. {
        let name = format!("s{number}");
        let epoch = created(&store, &name, &by).await;
        for clock in 0..8 {
            let peer = peer(clock, &"x".repeat(2000));
            store.journal(Entry::PeerJoined { key: key(&name), epoch, by: by.clone(), peer });
        }
        assert!(store.flush(Duration::from_secs(10)).await);
        println!("written {number} {epoch}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_while_it_writes_leaves_everything_that_was_answered() {
    let place = Place::sqlite();
    let StoreUrl::Sqlite(file) = &place.settings.url else { unreachable!() };
    // Another process has the file open all the time, as a second node would.
    let store = place.open().await;
    for (round, lines) in [20, 37, 64].into_iter().enumerate() {
        let mut child = Program::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::writer", "--ignored", "--nocapture"])
            .env(FILE, file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let written: Vec<(u64, u64)> = output.filter_map(|line| parse(&line)).take(lines).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(written.len(), lines, "round {round}");

        let mut connection = connection(&place).await;
        let sound: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(sound, "ok");
        let heir = registered(&store, "heir", round as u64).await;
        store
            .execute(Command::EndLease { lease: lease("writer", 1), beat: None, why: LeaseEnd::Exited })
            .await
            .unwrap();
        for (number, epoch) in written {
            let from = Epoch(epoch);
            let taken = Command::TakeOver { key: key(&format!("s{number}")), from, by: heir.clone() };
            match store.execute(taken).await.unwrap() {
                Outcome::Owned { epoch, legacy } => assert!(epoch > from && legacy.peers.len() == 8),
                other => panic!("round {round}, session {number}: {other:?}"),
            }
        }
        store.execute(Command::EndLease { lease: heir.clone(), beat: None, why: LeaseEnd::Exited }).await.unwrap();
        for dead in [heir, lease("writer", 1)] {
            assert!(matches!(
                store.execute(Command::Reap { lease: dead }).await,
                Ok(Outcome::Reaped { all: true, .. })
            ));
        }
    }
}

fn parse(line: &str) -> Option<(u64, u64)> {
    let (_, rest) = line.split_once("written ")?;
    let (number, epoch) = rest.split_once(' ')?;
    Some((number.parse().ok()?, epoch.parse().ok()?))
}
