//! Seats: never oversold, and back from the dead.

use ctedge_store::{Command, Outcome, Store};
use tokio::task::JoinSet;

use crate::support::{Dice, Place, lease, on_both, registered};

const LICENSED: u64 = 25;

async fn held(store: &Store, lease: &ctedge_ownership::LeaseId, want: u64) -> u64 {
    store.hold_seats(lease, want, LICENSED).await.unwrap().unwrap().held
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
                let seats = store.hold_seats(&lease, want, LICENSED).await.unwrap().unwrap();
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
    let seats = store.hold_seats(&one, 20, LICENSED).await.unwrap().unwrap();
    assert_eq!((seats.others, seats.wanted_elsewhere), (5, 15));
    assert_eq!(store.execute(Command::EndLease { lease: one.clone(), beat: None }).await, Ok(Outcome::Ended));
    assert_eq!(store.hold_seats(&one, 1, LICENSED).await, Ok(None));
    assert_eq!(held(&store, &two, 20).await, 20);
    assert_eq!(store.seats_held().await, Ok(20));
    assert_eq!(store.hold_seats(&lease("nobody", 1), 1, LICENSED).await, Ok(None));
}
