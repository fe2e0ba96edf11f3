//! Seats: never oversold, and back from the dead.

use std::sync::atomic::{AtomicU64, Ordering};

use ctedge_ownership::{Estate, HandoffReason, LeaseId};
use ctedge_store::{Command, LeaseEnd, Outcome, SeatWish, Seats, Store};
use tokio::task::JoinSet;

use crate::support::{Dice, Place, key, lease, on_both, peer, registered};

const LICENSED: u64 = 25;

/// Asks as a node does to which no session ever came.
async fn hold(store: &Store, lease: &LeaseId, want: u64) -> Option<Seats> {
    // Numbers of wishes only have to rise.
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    store.hold_seats(lease, SeatWish { want, sat: 0, exported: 0, number }, LICENSED).await.unwrap()
}

async fn held(store: &Store, lease: &LeaseId, want: u64) -> u64 {
    hold(store, lease, want).await.unwrap().held
}

on_both!(seats_are_never_oversold, never_oversold);

async fn never_oversold(place: Place) {
    let mut nodes = JoinSet::new();
    for number in 0..4 {
        let store = place.open().await;
        nodes.spawn(async move {
            let lease = registered(&store, "node", number).await;
            let mut dice = Dice(number);
            let mut short = 0;
            for _ in 0..40 {
                let want = dice.below(15) as u64;
                let seats = hold(&store, &lease, want).await.unwrap();
                assert!(seats.held + seats.others <= LICENSED, "{seats:?}");
                assert!(seats.held <= want);
                short += u32::from(seats.held < want);
                assert!(store.seats_held().await.unwrap() <= LICENSED);
            }
            short
        });
    }
    let short: u32 = nodes.join_all().await.into_iter().sum();
    assert!(short > 0, "nobody ever got less than wanted: the race was none");
}

on_both!(seats_of_an_ended_lease_come_back, come_back);

async fn come_back(place: Place) {
    let store = place.open().await;
    let (one, two) = (registered(&store, "one", 1).await, registered(&store, "two", 1).await);
    assert_eq!(held(&store, &one, 20).await, 20);
    assert_eq!(held(&store, &two, 20).await, 5);
    let seats = hold(&store, &one, 20).await.unwrap();
    assert_eq!((seats.others, seats.wanted_elsewhere), (5, 15));
    assert_eq!(
        store.execute(Command::EndLease { lease: one.clone(), beat: None, why: LeaseEnd::Exited }).await,
        Ok(Outcome::Ended)
    );
    assert_eq!(hold(&store, &one, 1).await, None);
    assert_eq!(held(&store, &two, 20).await, 20);
    assert_eq!(store.seats_held().await, Ok(20));
    assert_eq!(hold(&store, &lease("nobody", 1), 1).await, None);
}

on_both!(a_session_brings_its_seats_along, along);

/// What the target has in reserve stays its own, and what the session brings is nobody else's.
async fn along(place: Place) {
    let store = place.open().await;
    let (from, to) = (registered(&store, "from", 1).await, registered(&store, "to", 1).await);
    let third = registered(&store, "third", 1).await;
    let created = store.execute(Command::Create { key: key("k"), by: from.clone() }).await;
    let Ok(Outcome::Owned { epoch, .. }) = created else { panic!("{created:?}") };
    assert_eq!((held(&store, &from, 10).await, held(&store, &to, 15).await), (10, 15));
    let peers = (0..10).map(|clock| peer(clock, "moves")).collect();
    let estate = Estate { peers, ..Estate::default() };
    let handed = Command::HandOff {
        key: key("k"),
        epoch,
        by: from.clone(),
        to: Some(to.clone()),
        estate,
        reason: HandoffReason::DrainNow,
    };
    assert!(matches!(store.execute(handed).await, Ok(Outcome::HandedOff { .. })));
    assert_eq!(held(&store, &from, 0).await, 0);
    assert_eq!(held(&store, &third, 1).await, 0, "ten came to whoever holds fifteen");
    let wish = |want, number: u64| SeatWish { want, sat: 10, exported: 0, number: 1_000_000 + number };
    let seats = store.hold_seats(&to, wish(25, 2), LICENSED).await.unwrap().unwrap();
    assert_eq!((seats.held, held(&store, &third, 1).await), (25, 0), "they sat down");
    let late = store.hold_seats(&to, wish(1, 1), LICENSED).await.unwrap().unwrap();
    assert_eq!((late.held, held(&store, &third, 1).await), (25, 0), "a late question changes nothing");
}
