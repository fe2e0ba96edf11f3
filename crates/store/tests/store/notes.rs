//! What a process noted before it died comes into the store with the end of its lease.

use std::path::PathBuf;

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, Legacy};
use ctedge_store::{Command, Entry, LeaseEnd, Outcome, Store};

use crate::support::{Place, created, key, lease, on_both, peer, registered};

/// A place whose processes are on one machine.
fn noting(mut place: Place) -> (Place, PathBuf) {
    let folder = place.folder.path().join("notes");
    place.settings.notes = Some(folder.clone());
    (place, folder)
}

fn requested(name: &str, epoch: Epoch, by: &LeaseId, bytes: &'static [u8]) -> Entry {
    Entry::Requested { key: key(name), epoch, by: by.clone(), bytes: Bytes::from_static(bytes) }
}

fn joined(name: &str, epoch: Epoch, by: &LeaseId, clock: u64) -> Entry {
    Entry::PeerJoined { key: key(name), epoch, by: by.clone(), peer: peer(clock, "x") }
}

async fn end(store: &Store, lease: &LeaseId, beat: Option<u64>) -> Outcome {
    store.execute(Command::EndLease { lease: lease.clone(), beat, why: LeaseEnd::Exited }).await.unwrap()
}

/// What the next owner finds.
async fn taken_over(store: &Store, name: &str, from: Epoch) -> Legacy {
    let by = registered(store, "heir", from.0).await;
    match store.execute(Command::TakeOver { key: key(name), from, by }).await {
        Ok(Outcome::Owned { legacy, .. }) => legacy,
        other => panic!("{other:?}"),
    }
}

fn files(folder: &PathBuf) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

on_both!(the_next_owner_finds_what_a_dead_process_had_only_noted, noted);

async fn noted(place: Place) {
    let (place, folder) = noting(place);
    let store = place.open().await;
    let by = registered(&store, "node-1", u64::MAX).await;
    let (room, other) = (created(&store, "room", &by).await, created(&store, "other", &by).await);
    for clock in [1, 2] {
        store.journal(joined("room", room, &by, clock));
    }
    let in_flight = Some(Bytes::from_static(b"stored"));
    store.journal(Entry::InFlight { key: key("room"), epoch: room, by: by.clone(), bytes: in_flight });
    assert!(store.flush(place.settings.timeout).await);
    // This process has no journal of its own to write these.
    store.note(&requested("room", room, &by, b" and one"));
    store.note(&joined("room", room, &by, 3));
    store.note(&Entry::PeerLeft { key: key("room"), epoch: room, by: by.clone(), clock: 2 });
    store.note(&requested("room", room, &by, b" and two"));
    store.note(&requested("other", other, &by, b"alone"));
    drop(store);

    let next = place.open().await;
    assert_eq!(end(&next, &by, None).await, Outcome::Ended);
    let legacy = taken_over(&next, "room", room).await;
    let clocks: Vec<u64> = legacy.peers.iter().map(|peer| peer.clock).collect();
    assert_eq!((clocks, legacy.in_flight), (vec![1, 3], Some(Bytes::from_static(b"stored and one and two"))));
    assert_eq!(taken_over(&next, "other", other).await.in_flight, Some(Bytes::from_static(b"alone")));
    assert_eq!(files(&folder), 0, "they are done with");
    assert_eq!(end(&next, &by, None).await, Outcome::Ended, "as often as one likes");
}

on_both!(notes_count_only_while_the_lease_stands_and_the_session_is_its_own, fenced);

async fn fenced(place: Place) {
    let (place, folder) = noting(place);
    let store = place.open().await;
    let (one, two) = (registered(&store, "one", 1).await, registered(&store, "two", 1).await);
    let (of_one, of_two) = (created(&store, "of-one", &one).await, created(&store, "of-two", &two).await);
    store.note(&requested("of-one", of_one, &one, b"late"));
    store.note(&requested("of-two", of_two, &one, b"foreign"));
    store.note(&requested("of-one", Epoch(of_one.0 + 1), &one, b"of another epoch"));
    assert_eq!(end(&store, &one, Some(77)).await, Outcome::Beating);
    assert_eq!(files(&folder), 2, "a lease that beats keeps its notes");
    // Another machine has found it silent: it knows of no notes.
    let mut elsewhere = Place { settings: place.settings.clone(), ..Place::sqlite() };
    elsewhere.settings.notes = None;
    assert_eq!(end(&elsewhere.open().await, &one, None).await, Outcome::Ended);
    assert_eq!(end(&store, &one, None).await, Outcome::Ended);
    assert_eq!(files(&folder), 0);
    assert_eq!(taken_over(&store, "of-one", of_one).await.in_flight, None);
    assert_eq!(end(&store, &two, None).await, Outcome::Ended);
    assert_eq!(taken_over(&store, "of-two", of_two).await.in_flight, None);
}

on_both!(notes_that_are_of_no_use_do_not_keep_a_lease_from_ending, useless);

async fn useless(place: Place) {
    let (place, folder) = noting(place);
    let store = place.open().await;
    let by = registered(&store, "node-1", 1).await;
    let room = created(&store, "room", &by).await;
    // No file, no notes, and a peer that PostgreSQL does not take.
    std::fs::create_dir_all(folder.join("node-1-1.0")).unwrap();
    std::fs::write(folder.join("node-1-1.1"), b"no notes").unwrap();
    assert_eq!(end(&store, &by, None).await, Outcome::Ended);
    assert_eq!(taken_over(&store, "room", room).await, Legacy::default());

    std::fs::remove_dir_all(&folder).unwrap();
    let by = registered(&store, "node-2", 1).await;
    let room = created(&store, "cell", &by).await;
    let mut refused = peer(1, "x");
    refused.user = "a byte\0".into();
    store.note(&Entry::PeerJoined { key: key("cell"), epoch: room, by: by.clone(), peer: refused });
    assert_eq!(end(&store, &by, None).await, Outcome::Ended);
    assert_eq!(files(&folder), 0);
}

on_both!(notes_of_leases_that_are_over_are_removed_and_others_are_not, forgotten);

async fn forgotten(place: Place) {
    let (place, folder) = noting(place);
    let store = place.open().await;
    let by = registered(&store, "node-1", 1).await;
    let room = created(&store, "room", &by).await;
    store.note(&requested("room", room, &by, b"x"));
    for name in ["node-1-2.0", "gone-3.1", "a file of somebody else"] {
        std::fs::write(folder.join(name), b"12345678").unwrap();
    }
    store.forget_notes().await.unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a file of somebody else", "node-1-1.0", "node-1-1.1"]);
    assert_eq!(lease("node-1", 1), by);
}

on_both!(what_is_in_the_store_is_not_noted_any_longer, settled);

async fn settled(place: Place) {
    let (place, _) = noting(place);
    let store = place.open().await;
    let by = registered(&store, "node-1", 1).await;
    let room = created(&store, "room", &by).await;
    store.note(&requested("room", room, &by, b"x"));
    let late = |bytes: &'static [u8]| {
        let bytes = Some(Bytes::from_static(bytes));
        store.journal_late(|| {
            store.journal(Entry::InFlight { key: key("room"), epoch: room, by: by.clone(), bytes });
        });
    };
    late(b"x");
    assert!(store.health().notes.bytes > 0);
    for _ in 0..2 {
        assert!(store.flush(place.settings.timeout).await);
        store.journal_late(|| ());
    }
    assert_eq!(store.health().notes.bytes, 0);
}
