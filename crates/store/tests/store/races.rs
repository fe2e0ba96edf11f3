//! Several processes at one store, as several pools of connections.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ctedge_ownership::command::Estate;
use ctedge_ownership::{Epoch, HandoffReason, Legacy};
use ctedge_store::{Command, Entry, LeaseEnd, Outcome, Store};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{Place, beaten, created, key, lease, on_both, peer, registered};

/// How many processes race.
const RACERS: u64 = 4;

on_both!(of_those_who_take_over_one_epoch_exactly_one_wins, take_over);

async fn take_over(place: Place) {
    let former = place.open().await;
    let dead = registered(&former, "dead", 1).await;
    let mut epochs = Vec::new();
    for round in 0..25 {
        epochs.push(created(&former, &format!("s{round}"), &dead).await);
    }
    let end = Command::EndLease { lease: dead.clone(), beat: None, why: LeaseEnd::Exited };
    assert_eq!(former.execute(end).await, Ok(Outcome::Ended));
    let winners = race(&place, move |store, racer| {
        let epochs = epochs.clone();
        async move {
            let by = registered(&store, "racer", racer).await;
            let mut won = Vec::new();
            for (round, from) in epochs.into_iter().enumerate() {
                let command = Command::TakeOver { key: key(&format!("s{round}")), from, by: by.clone() };
                match store.execute(command).await {
                    Ok(Outcome::Owned { epoch, .. }) => won.push((round, epoch)),
                    Ok(Outcome::Lost(Some(record))) => assert!(record.epoch > from),
                    other => panic!("{other:?}"),
                }
            }
            won
        }
    })
    .await;
    let rounds: HashSet<usize> = winners.iter().map(|(round, _)| *round).collect();
    let epochs: HashSet<Epoch> = winners.iter().map(|(_, epoch)| *epoch).collect();
    assert_eq!((winners.len(), rounds.len(), epochs.len()), (25, 25, 25), "{winners:?}");
}

on_both!(of_those_who_create_one_session_exactly_one_wins, create);

async fn create(place: Place) {
    let owned = race(&place, |store, racer| async move {
        let by = registered(&store, "racer", racer).await;
        let mut owned = Vec::new();
        for round in 0..25 {
            let name = key(&format!("s{round}"));
            match store.execute(Command::Create { key: name.clone(), by: by.clone() }).await {
                Ok(Outcome::Owned { epoch, .. }) => {
                    owned.push((round, epoch));
                    if round % 3 == 0 {
                        let deleted = store.execute(Command::Delete { key: name, epoch, by: by.clone() }).await;
                        assert_eq!(deleted, Ok(Outcome::Deleted));
                    }
                }
                Ok(Outcome::Taken(record)) => assert_ne!(record.owner, by),
                other => panic!("{other:?}"),
            }
        }
        owned
    })
    .await;
    let epochs: HashSet<Epoch> = owned.iter().map(|(_, epoch)| *epoch).collect();
    assert_eq!(epochs.len(), owned.len(), "an epoch was issued twice: {owned:?}");
    for round in (0..25).filter(|round| round % 3 != 0) {
        assert_eq!(owned.iter().filter(|(owned, _)| *owned == round).count(), 1, "session {round}");
    }
}

on_both!(nothing_by_a_lease_happens_after_it_ended, fence);

async fn fence(place: Place) {
    let (owner, other) = (place.open().await, place.open().await);
    let by = registered(&owner, "owner", 1).await;
    let creating = tokio::spawn({
        let (owner, by) = (owner.clone(), by.clone());
        async move {
            for number in 0.. {
                let command = Command::Create { key: key(&format!("s{number}")), by: by.clone() };
                match owner.execute(command).await {
                    Ok(Outcome::Owned { .. }) => {}
                    Ok(Outcome::LeaseEnded) => return number,
                    other => panic!("{other:?}"),
                }
            }
            unreachable!("numbers end never")
        }
    });
    while other.sessions(None, 1000).await.unwrap().len() < 20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        other.execute(Command::EndLease { lease: by, beat: None, why: LeaseEnd::Exited }).await,
        Ok(Outcome::Ended)
    );
    let at_the_end = sessions(&other).await;
    assert_eq!(creating.await.unwrap(), at_the_end);
    assert_eq!(sessions(&other).await, at_the_end);
}

/// How many sessions there are, over all pages.
async fn sessions(store: &Store) -> usize {
    let (mut count, mut last) = (0, None);
    loop {
        let page = store.sessions(last.as_ref(), 1000).await.unwrap();
        count += page.len();
        last = page.last().map(|session| session.key.clone());
        if last.is_none() {
            return count;
        }
    }
}

on_both!(a_takeover_gets_every_peer_that_was_written_and_none_comes_after_it, late_peers);

async fn late_peers(place: Place) {
    let (owner, other) = (place.open().await, place.open().await);
    let heir = registered(&other, "heir", 1).await;
    for round in 0..10 {
        let by = registered(&owner, "owner", round).await;
        let name = format!("s{round}");
        let epoch = created(&owner, &name, &by).await;
        let joining = tokio::spawn({
            let (owner, by, name) = (owner.clone(), by.clone(), name.clone());
            async move {
                for clock in 1..400 {
                    let peer = peer(clock, "late");
                    owner.journal(Entry::PeerJoined { key: key(&name), epoch, by: by.clone(), peer });
                    if clock % 20 == 0 {
                        owner.flush(Duration::from_secs(5)).await;
                    }
                }
            }
        });
        while other
            .sessions(None, 1000)
            .await
            .unwrap()
            .iter()
            .all(|session| session.key != key(&name) || session.peers == 0)
        {
            tokio::task::yield_now().await;
        }
        other.execute(Command::EndLease { lease: by, beat: None, why: LeaseEnd::Exited }).await.unwrap();
        let taken = other.execute(Command::TakeOver { key: key(&name), from: epoch, by: heir.clone() }).await;
        let Ok(Outcome::Owned { epoch, legacy }) = taken else { panic!("{taken:?}") };
        joining.await.unwrap();
        assert!(owner.flush(Duration::from_secs(5)).await);
        assert_eq!(read(&other, &name, epoch, &heir).await, legacy);
    }
    assert!(owner.health().journal.fenced > 0, "no entry came late: the race was none");
}

on_both!(nothing_is_written_about_a_session_after_it_was_handed_off, handed_off);

async fn handed_off(place: Place) {
    let (owner, journal) = (place.open().await, place.open().await);
    let (by, heir) = (registered(&owner, "owner", 1).await, registered(&owner, "heir", 1).await);
    for round in 0..30 {
        let name = format!("s{round}");
        let former = created(&owner, &name, &by).await;
        let joining = tokio::spawn({
            let (journal, by, name) = (journal.clone(), by.clone(), name.clone());
            async move {
                for clock in 1..300 {
                    let peer = peer(clock, "late");
                    journal.journal(Entry::PeerJoined { key: key(&name), epoch: former, by: by.clone(), peer });
                    if clock % 10 == 0 {
                        journal.flush(Duration::from_secs(5)).await;
                    }
                }
            }
        });
        let peers = async || owner.sessions(None, 1000).await.unwrap().iter().map(|session| session.peers).sum::<u64>();
        while peers().await == 0 {
            tokio::task::yield_now().await;
        }
        let (to, estate) = (Some(heir.clone()), Estate::default());
        let command = Command::HandOff {
            key: key(&name),
            epoch: former,
            by: by.clone(),
            to,
            estate,
            reason: HandoffReason::DrainNow,
        };
        let handed = owner.execute(command).await;
        let Ok(Outcome::HandedOff { epoch }) = handed else { panic!("{handed:?}") };
        joining.await.unwrap();
        assert!(journal.flush(Duration::from_secs(5)).await);
        assert!(read(&owner, &name, epoch, &heir).await.peers.is_empty(), "round {round}");
    }
    assert!(journal.health().journal.fenced > 0, "no entry came late: the race was none");
}

async fn read(store: &Store, name: &str, epoch: Epoch, by: &ctedge_ownership::LeaseId) -> Legacy {
    match store.execute(Command::Read { key: key(name), epoch, by: by.clone() }).await {
        Ok(Outcome::Owned { legacy, .. }) => legacy,
        other => panic!("{other:?}"),
    }
}

on_both!(a_registration_that_is_repeated_at_the_same_time_counts_once, register);

async fn register(place: Place) {
    const ROUNDS: u16 = 25;
    let round_begins = Arc::new(Barrier::new(RACERS as usize));
    race(&place, move |store, _| {
        let round_begins = Arc::clone(&round_begins);
        async move {
            for round in 0..ROUNDS {
                let lease = lease("node", u64::from(round));
                let address = SocketAddr::from(([127, 0, 0, 1], 3000 + round));
                round_begins.wait().await;
                let outcome = store.execute(Command::Register { lease, address, pid: 1 }).await;
                assert_eq!(outcome, Ok(Outcome::Registered));
            }
            Vec::<()>::new()
        }
    })
    .await;
    assert_eq!(place.open().await.leases().await.unwrap().len(), usize::from(ROUNDS));
}

on_both!(heartbeats_of_many_processes_are_all_counted, beats);

async fn beats(place: Place) {
    race(&place, |store, racer| async move {
        let by = registered(&store, "racer", racer).await;
        for _ in 0..20 {
            assert!(matches!(beaten(&store, &by).await, Outcome::Beaten { .. }));
        }
        Vec::<()>::new()
    })
    .await;
    let leases = place.open().await.leases().await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.beat).collect::<Vec<_>>(), [20; RACERS as usize]);
}

/// Runs `racer` in as many stores, all beginning at the same time; what they brought home.
async fn race<T, F>(place: &Place, racer: impl Fn(Store, u64) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = Vec<T>> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(RACERS as usize));
    let mut racing = JoinSet::new();
    for number in 0..RACERS {
        let (run, barrier) = (racer(place.open().await, number), Arc::clone(&barrier));
        racing.spawn(async move {
            barrier.wait().await;
            run.await
        });
    }
    racing.join_all().await.into_iter().flatten().collect()
}
