//! Nodes that do not know whether a session is their own, or learn that it is not.

use std::path::Path;
use std::time::{Duration, Instant};

use ctedge_node::hub::{CloseReason, Handshake, Pending};
use ctedge_ownership::{Command, Estate, HandoffReason, LeaseEnd, LeaseId, NodeId, Outcome};
use ctedge_store::Store;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;

use super::{SOCKET, back, ends, message, pair_written, refused, two};
use crate::client::{Client, PUBLIC_KEY, broadcast, soon};
use crate::room::{LOST_AFTER, Room, share, store_in};

#[tokio::test]
async fn a_node_whose_lease_was_ended_lets_go_and_begins_anew() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, _guest) = first.pair().await;
    let peer_id = host.peer_id.clone();
    pair_written(folder.path()).await;
    let incarnation = first.health().await.incarnation;
    let store = Store::open(&store_in(folder.path())).await.unwrap();
    let lease = LeaseId::new(NodeId::new("a"), incarnation);
    store.execute(Command::EndLease { lease, beat: None, why: LeaseEnd::Exited }).await.unwrap();

    assert!(ends(&mut host).await.is_empty());
    assert_eq!(back(&second, &second.host_token()).await.peer_id, peer_id);
    soon(first.hub.gate().opened()).await;
    let health = first.health().await;
    assert_ne!(health.incarnation, incarnation);
    assert_eq!((health.sessions, health.peers), (0, 0));
    let answer = refused(&first, &first.headers(&first.host_token())).await;
    assert!(answer.contains("x-ctedge-owner: b\r\n"), "{answer}");
}

/// Gives the session away behind its node's back: from here on the store says that `to` owns it.
async fn give_away(folder: &Path, from: &Room, to: &Room) {
    let store = Store::open(&store_in(folder)).await.unwrap();
    let Ok(Outcome::Found(record)) = store.execute(Command::Look { key: from.key.clone() }).await else {
        panic!("the session is in the store")
    };
    let by = LeaseId::new(NodeId::new("a"), from.health().await.incarnation);
    assert_eq!(record.owner, by);
    let to = LeaseId::new(NodeId::new("b"), to.health().await.incarnation);
    let (key, epoch) = (record.key, record.epoch);
    let Ok(Outcome::Owned { legacy, .. }) =
        store.execute(Command::Read { key: key.clone(), epoch, by: by.clone() }).await
    else {
        panic!("{by:?} owns the session")
    };
    // With its peers, so that `to` goes on with it.
    let (estate, reason) = (Estate { peers: legacy.peers, ..Estate::default() }, HandoffReason::DrainNow);
    let taken = Command::HandOff { key, epoch, by, to: Some(to), estate, reason };
    assert!(matches!(store.execute(taken).await, Ok(Outcome::HandedOff { .. })));
}

#[tokio::test]
async fn a_node_that_learns_that_a_session_is_not_its_own_any_more_closes_its_connections() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, mut guest) = first.pair().await;
    let other = Client::upgrade(&first, SOCKET, &first.headers_of("other")).await;
    pair_written(folder.path()).await;
    give_away(folder.path(), &first, &second).await;

    // What it writes next about the session is refused.
    guest.say(&message("request", &[("id", 7.into()), ("target", (&*host.peer_id).into())])).await;
    ends(&mut host).await;
    assert!(ends(&mut guest).await.is_empty());
    let health = first.health().await;
    assert_eq!((health.sessions, health.peers), (1, 1), "the other session stays");
    drop(other);
    let answer = refused(&first, &first.headers(&first.host_token())).await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("x-ctedge-owner: b\r\n"), "{answer}");
    let text = first.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_ownership_total{event=\"fenced\",reason=\"epoch_passed\"} 1\n"), "{text}");
}

#[tokio::test]
async fn a_message_waits_until_its_node_has_made_sure_that_the_session_is_its_own() {
    let folder = TempDir::new().unwrap();
    let room = Room::start_with(|settings| {
        share(settings, folder.path(), "a");
        // Between two heartbeats the node does not know for most of the time.
        (settings.lease.lost_after, settings.lease.beat) = (3 * LOST_AFTER, 9 * LOST_AFTER);
    })
    .await;
    let gate = room.hub.gate();
    soon(gate.opened()).await;
    let (mut host, mut guest) = room.pair().await;
    let is_closed = async {
        while gate.is_open(Instant::now()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(is_closed).await;
    host.send(b"in between", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"in between");
    assert!(gate.is_open(Instant::now()), "it was relayed before the next heartbeat");
}

#[tokio::test]
async fn a_peer_that_sends_more_than_may_wait_for_that_goes() {
    let folder = TempDir::new().unwrap();
    let room = Room::start_with(|settings| {
        share(settings, folder.path(), "a");
        settings.lease.beat = 5 * LOST_AFTER;
        (settings.limits.message_bytes_max, settings.limits.outbox_bytes_max) = (50_000, 100_000);
    })
    .await;
    soon(room.hub.gate().opened()).await;
    let mut host = back(&room, &room.host_token()).await;
    // Without a transport, which would stop reading.
    let handshake = Handshake::new(PUBLIC_KEY, None, None);
    let guest = room.hub.attach(Some(&room.key), &[], &room.guest_token(1), handshake).await.unwrap();
    let is_closed = async {
        while room.hub.gate().is_open(Instant::now()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(is_closed).await;
    for number in 0..4 {
        guest.receive(&broadcast(&[number; 40_000], &[&host.peer_id]));
    }
    let text = room.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_messages_dropped_total{reason=\"held_full\"} 2\n"), "{text}");
    let held = text.lines().find_map(|line| line.strip_prefix("ctedge_node_held_bytes ")).unwrap();
    assert!((80_000..=100_000).contains(&held.parse::<u64>().unwrap()), "{held}");

    assert_eq!(host.broadcasts(2).await, [vec![0; 40_000], vec![1; 40_000]]);
    let left = soon(std::future::poll_fn(|cx| guest.poll_pending(cx, u64::MAX, 1, &mut |_, _| ()))).await;
    assert_eq!(left, Pending::Close { reason: CloseReason::HeldFull });
    assert_eq!(room.health().await.peers, 1);
}

#[tokio::test]
async fn without_the_store_a_node_serves_what_it_owns_and_begins_nothing() {
    let folder = TempDir::new().unwrap();
    let room = Room::sharing(folder.path(), "a").await;
    let (mut host, mut guest) = room.pair().await;
    pair_written(folder.path()).await;
    // Another process that never lets go of the file is as good as no file.
    let url = format!("sqlite:{}", folder.path().join("ctedge.db").display());
    let mut hog = SqliteConnection::connect(&url).await.unwrap();
    hog.execute("BEGIN EXCLUSIVE").await.unwrap();
    let is_away = async {
        while room.health().await.store.as_str() == "ok" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(is_away).await;
    tokio::time::sleep(2 * LOST_AFTER).await;
    host.send(b"all the same", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"all the same");
    let other = room.headers_of("other");
    let answer = refused(&room, &other).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");

    hog.execute("ROLLBACK").await.unwrap();
    let is_back = async {
        while Client::upgrade(&room, SOCKET, &other).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(is_back).await;
    host.send(b"still", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"still");
}
