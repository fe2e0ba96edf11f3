//! What is written behind the messages.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_ownership::command::Estate;
use ctedge_ownership::{Epoch, HandoffReason, LeaseId, Legacy, NodeId};
use ctedge_store::{Audit, AuditEvent, AuditFilter, Command, Entry, LeaseEnd, Outcome, Store, UnixMillis};

use crate::support::{Place, connection, created, day, key, on_both, peer, registered};

const PATIENCE: Duration = Duration::from_secs(10);

async fn legacy(store: &Store, name: &str, epoch: Epoch, by: &LeaseId) -> Legacy {
    match store.execute(Command::Read { key: key(name), epoch, by: by.clone() }).await {
        Ok(Outcome::Owned { legacy, .. }) => legacy,
        other => panic!("{other:?}"),
    }
}

fn joined(name: &str, epoch: Epoch, by: &LeaseId, clock: u64) -> Entry {
    Entry::PeerJoined { key: key(name), epoch, by: by.clone(), peer: peer(clock, "x") }
}

fn in_flight(name: &str, epoch: Epoch, by: &LeaseId, bytes: Option<u64>) -> Entry {
    let bytes = bytes.map(|number| Bytes::from(number.to_string()));
    Entry::InFlight { key: key(name), epoch, by: by.clone(), bytes }
}

fn audit(at: u64) -> Entry {
    Entry::Audit(Audit {
        at: UnixMillis(at),
        day: day(24),
        event: AuditEvent::Ended,
        key: key("room"),
        node: NodeId::new("node"),
        peer: None,
        user: None,
        client: None,
        reason: Some("a byte\0 that PostgreSQL does not take".into()),
    })
}

/// Waits until `reached` says so.
async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

on_both!(entries_are_written_in_order_without_being_asked_for, in_order);

async fn in_order(place: Place) {
    let store = place.open().await;
    let by = registered(&store, "node", 1).await;
    let epoch = created(&store, "room", &by).await;
    for clock in 0..1000 {
        store.journal(joined("room", epoch, &by, clock % 50));
        store.journal(Entry::PeerLeft { key: key("room"), epoch, by: by.clone(), clock: (clock + 25) % 50 });
        store.journal(in_flight("room", epoch, &by, Some(clock)));
    }
    until("writing", async || store.health().journal.entries == 0).await;
    let there = legacy(&store, "room", epoch, &by).await;
    let clocks: Vec<u64> = there.peers.iter().map(|peer| peer.clock).collect();
    assert_eq!(clocks, (25..50).collect::<Vec<_>>());
    assert_eq!(there.in_flight, Some(Bytes::from_static(b"999")));
    store.journal(in_flight("room", epoch, &by, None));
    assert!(store.flush(PATIENCE).await);
    assert_eq!(legacy(&store, "room", epoch, &by).await.in_flight, None);
    assert_eq!(store.health().journal.lost(), 0);
}

on_both!(an_entry_of_a_former_owner_changes_nothing, fenced);

async fn fenced(place: Place) {
    let store = place.open().await;
    let (one, two) = (registered(&store, "one", 1).await, registered(&store, "two", 1).await);
    let former = created(&store, "room", &one).await;
    let estate = Estate { bytes: Bytes::from_static(b"e"), peers: vec![peer(1, "kept")], in_flight: None };
    let to = Some(two.clone());
    let (by, reason) = (one.clone(), HandoffReason::DrainNow);
    let handed = store.execute(Command::HandOff { key: key("room"), epoch: former, by, to, estate, reason }).await;
    let Ok(Outcome::HandedOff { epoch }) = handed else { panic!("{handed:?}") };
    store.journal(joined("room", former, &one, 2));
    store.journal(joined("room", epoch, &one, 3));
    store.journal(joined("room", former, &two, 4));
    store.journal(Entry::PeerLeft { key: key("room"), epoch: former, by: one, clock: 1 });
    store.journal(joined("room", epoch, &two, 5));
    assert!(store.flush(PATIENCE).await);
    let clocks: Vec<u64> = legacy(&store, "room", epoch, &two).await.peers.iter().map(|peer| peer.clock).collect();
    assert_eq!((clocks, store.health().journal.fenced), (vec![1, 5], 4));
}

on_both!(whoever_writes_about_a_session_that_it_has_lost_is_told, lost);

async fn lost(place: Place) {
    let store = place.open().await;
    let (one, two) = (registered(&store, "one", 1).await, registered(&store, "two", 1).await);
    let (kept, moved) = (created(&store, "kept", &one).await, created(&store, "moved", &one).await);
    let ended = created(&store, "ended", &one).await;
    let handed = Command::HandOff {
        reason: HandoffReason::DrainNow,
        key: key("moved"),
        epoch: moved,
        by: one.clone(),
        to: Some(two.clone()),
        estate: Estate::default(),
    };
    assert!(matches!(store.execute(handed).await, Ok(Outcome::HandedOff { .. })));
    let deleted = Command::Delete { key: key("ended"), epoch: ended, by: one.clone() };
    assert_eq!(store.execute(deleted).await, Ok(Outcome::Deleted));
    for _ in 0..2 {
        store.journal(joined("kept", kept, &one, 1));
        store.journal(joined("moved", moved, &one, 1));
        store.journal(joined("ended", ended, &one, 1));
        store.journal(audit(1));
    }
    assert!(store.flush(PATIENCE).await);
    let told = tokio::time::timeout(PATIENCE, store.lost_sessions()).await.unwrap();
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [(key("ended"), ended), (key("moved"), moved)]);

    // A lease that has ended has lost everything: its heartbeat says so, not this.
    store.execute(Command::EndLease { lease: one.clone(), beat: None, why: LeaseEnd::Exited }).await.unwrap();
    store.journal(joined("kept", kept, &one, 2));
    store.journal(joined("moved", moved, &two, 2));
    assert!(store.flush(PATIENCE).await);
    let told = tokio::time::timeout(PATIENCE, store.lost_sessions()).await.unwrap();
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [(key("moved"), moved)]);
}

#[tokio::test]
async fn an_entry_that_the_database_refuses_takes_no_other_with_it() {
    let Some(place) = Place::postgres() else { return };
    let store = place.open().await;
    let by = registered(&store, "node", 1).await;
    let epoch = created(&store, "room", &by).await;
    for clock in 0..20 {
        let mut peer = peer(clock, "x");
        if clock == 7 {
            peer.user = "a byte\0 that PostgreSQL does not take".into();
        }
        store.journal(Entry::PeerJoined { key: key("room"), epoch, by: by.clone(), peer });
        store.journal(audit(clock));
    }
    assert!(store.flush(PATIENCE).await);
    let journal = store.health().journal;
    assert_eq!((journal.refused, journal.written, journal.lost()), (1, 39, 1));
    assert_eq!(legacy(&store, "room", epoch, &by).await.peers.len(), 19);
    assert_eq!(store.audit(&AuditFilter::default(), None, 100).await.unwrap().0.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_wait_while_the_store_is_locked_and_records_are_dropped_first() {
    let mut place = Place::sqlite();
    let patient = place.open().await;
    let by = registered(&patient, "node", 1).await;
    let epoch = created(&patient, "room", &by).await;
    drop(patient);
    place.settings.timeout = Duration::from_millis(200);
    place.settings.journal_entries_max = 50;
    let store = place.open().await;
    let mut file = connection(&place).await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut file).await.unwrap();
    // The writer has this one in its hands, and takes no other before it is written.
    store.journal(audit(0));
    assert!(!store.flush(Duration::from_millis(300)).await);
    for number in 1..40 {
        store.journal(audit(number));
    }
    for clock in 0..40 {
        store.journal(joined("room", epoch, &by, clock));
    }
    assert!(!store.flush(Duration::from_millis(300)).await, "nothing can be written");
    let journal = store.health().journal;
    assert_eq!((journal.entries, journal.dropped_sessions), (50, 0));
    assert_eq!(journal.dropped_audit, 30);
    sqlx::query("ROLLBACK").execute(&mut file).await.unwrap();
    until("recovery", async || store.health().journal.entries == 0).await;
    assert_eq!(legacy(&store, "room", epoch, &by).await.peers.len(), 40);
    assert_eq!(store.audit(&AuditFilter::default(), None, 100).await.unwrap().0.len(), 10);
}

on_both!(who_left_has_left_as_far_as_the_journal_is_written, left);

async fn left(place: Place) {
    let store = place.open().await;
    let by = registered(&store, "node", 1).await;
    let (room, over) = (created(&store, "room", &by).await, created(&store, "over", &by).await);
    store.journal(joined("room", room, &by, 1));
    store.journal(joined("over", over, &by, 1));
    assert!(store.flush(PATIENCE).await);
    store.journal(Entry::PeerLeft { key: key("room"), epoch: room, by: by.clone(), clock: 1 });
    tokio::time::timeout(PATIENCE, store.written(store.journaled())).await.unwrap();
    assert_eq!(legacy(&store, "room", room, &by).await.peers, []);

    // Everybody leaves with a session, be it that its record was faster.
    store.execute(Command::Delete { key: key("over"), epoch: over, by: by.clone() }).await.unwrap();
    store.journal(Entry::PeerLeft { key: key("over"), epoch: over, by: by.clone(), clock: 1 });
    assert!(store.flush(PATIENCE).await);
    assert_eq!(store.health().journal.fenced, 0);
}

on_both!(a_journal_ends_with_the_last_store_that_has_it, ends);

async fn ends(place: Place) {
    let store = place.open().await;
    let other = store.clone();
    drop(store);
    other.journal(audit(1));
    assert!(other.flush(PATIENCE).await);
    drop(other);
    assert_eq!(place.open().await.audit(&AuditFilter::default(), None, 10).await.unwrap().0.len(), 1);
}
