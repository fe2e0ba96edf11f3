//! Nodes that are down or out of reach, and requests that race.

use std::cell::RefCell;

use ctedge_routing::{Choice, ConnectFailure, PinReason, Standing};

use crate::support::{Bench, address, addresses, key, placed, port};

#[test]
fn a_key_fails_over_once_and_stays_when_its_node_returns() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[1, 2, 3]);
    bench.dies(1);
    assert_eq!(bench.named("k", &[1, 2, 3]), (2, PinReason::Failover));
    bench.says(1, None);
    assert_eq!(bench.named("k", &[1, 2, 3]), (2, PinReason::Failover));
    assert_eq!(bench.router.pin_counts().failovers, 1);
}

#[test]
fn a_key_that_nobody_asked_for_while_its_node_was_down_is_still_there_when_it_returns() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    bench.says(1, None);
    assert_eq!(bench.named("k", &[2, 1]), (1, PinReason::Placed));
}

#[test]
fn a_live_key_whose_node_is_unreachable_but_not_down_does_not_move() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    let choice = bench.choose("k", Standing::Named, &[1, 2], &[1]);
    assert!(matches!(choice, Choice::Unreachable(node) if node.address() == address(1)));
    bench.dies(1);
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[1])), 2);
}

/// While a process ends, its connections are reset before they are refused.
#[test]
fn a_live_key_whose_node_resets_connects_is_asked_for_there_again_and_moves_when_they_are_refused() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.router.connect_failed(&bench.node(1), ConnectFailure::Other, bench.now());
    assert!(matches!(bench.choose("k", Standing::Named, &[1, 2], &[1]), Choice::Unreachable(_)));
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[])), 1, "after a pause it is asked again");
    bench.dies(1);
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[1])), 2);
}

#[test]
fn a_live_key_whose_node_went_down_and_came_back_under_a_request_is_asked_for_there_again() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    bench.says(1, None);
    assert!(matches!(bench.choose("k", Standing::Named, &[1, 2], &[1]), Choice::Unreachable(_)));
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[])), 1);
}

/// While the ranks are read for a first request, another one places the key on a node that then ends.
#[test]
fn a_key_that_was_placed_on_a_node_that_ended_meanwhile_is_chosen_for_again() {
    let bench = Bench::new(&[1, 2]);
    let ranked = addresses(&[1, 2]).into_iter().inspect(|_| {
        bench.choose("k", Standing::Named, &[2, 1], &[]);
        bench.dies(2);
    });
    let choice = bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now());
    assert!(matches!(choice, Choice::Unreachable(node) if node.address() == address(2)));
    assert_eq!(port(bench.choose("k", Standing::Named, &[1, 2], &[])), 1);
}

#[test]
fn a_key_of_which_no_node_has_answered_moves_on_when_its_node_is_unreachable() {
    let bench = Bench::new(&[1, 2]);
    assert_eq!(port(bench.choose("k", Standing::Fresh, &[1, 2], &[])), 1);
    let second = placed(bench.choose("k", Standing::Fresh, &[1, 2], &[1]));
    assert_eq!((second.node.address().port(), second.reason), (2, PinReason::NextRank));
    assert_eq!(bench.named("k", &[1, 2]).0, 2, "and stays there");
}

#[test]
fn of_two_nodes_that_were_asked_the_first_to_answer_has_the_key() {
    let bench = Bench::new(&[1, 2]);
    let first = placed(bench.choose("k", Standing::Named, &[1, 2], &[])).node;
    let second = placed(bench.choose("k", Standing::Named, &[1, 2], &[1])).node;
    assert!(bench.router.answered(&key("k"), &first, bench.now()));
    assert!(!bench.router.answered(&key("k"), &second, bench.now()));
    assert!(bench.router.tunnel_opened(&key("k"), &second, bench.now()).is_none());
    assert_eq!(bench.named("k", &[2, 1]).0, 1);
}

#[test]
fn with_no_node_up_nobody_is_chosen() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    bench.dies(2);
    assert!(matches!(bench.choose("k", Standing::Named, &[1, 2], &[]), Choice::NoneUp));
    assert!(matches!(bench.choose("new", Standing::Fresh, &[1, 2], &[]), Choice::NoneUp));
    bench.says(2, None);
    assert_eq!(bench.named("k", &[1, 2]), (2, PinReason::Failover));
}

/// While the ranks of a request are read, another request of the same key runs from start to end.
#[test]
fn two_first_requests_of_one_key_agree_whatever_ranks_they_see() {
    let bench = Bench::new(&[1, 2]);
    let other = RefCell::new(None);
    let ranked = addresses(&[1, 2]).into_iter().inspect(|_| {
        other.borrow_mut().get_or_insert_with(|| port(bench.choose("k", Standing::Named, &[2, 1], &[])));
    });
    let one = port(bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now()));
    assert_eq!((one, other.into_inner()), (2, Some(2)));
    assert_eq!(bench.node(1).pins() + bench.node(2).pins(), 1);
}

#[test]
fn two_failovers_of_one_key_agree_whatever_ranks_they_see() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[1, 2, 3]);
    bench.dies(1);
    let other = RefCell::new(None);
    let ranked = addresses(&[1, 2, 3]).into_iter().inspect(|_| {
        other.borrow_mut().get_or_insert_with(|| port(bench.choose("k", Standing::Named, &[1, 3, 2], &[])));
    });
    let one = port(bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now()));
    assert_eq!((one, other.into_inner()), (3, Some(3)));
    assert_eq!(bench.router.pin_counts().failovers, 1);
}

#[test]
fn a_key_does_not_leave_a_node_that_came_back_while_another_was_looked_for() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    bench.dies(1);
    let ranked = addresses(&[1, 2]).into_iter().filter(|address| {
        let skipped = *address == self::address(1);
        if !skipped {
            bench.says(1, None);
        }
        !skipped
    });
    assert_eq!(port(bench.router.choose(&key("k"), Standing::Named, ranked, &[], bench.now())), 1);
}

#[test]
fn threads_that_race_for_new_keys_agree() {
    let bench = Bench::new(&[1, 2, 3, 4]);
    let (router, now) = (&bench.router, bench.now());
    let places = |ranked: [u16; 4]| -> Vec<u16> {
        let names = (0..2_000).map(|index| key(&format!("k{}", index % 500)));
        names.map(|key| port(router.choose(&key, Standing::Named, addresses(&ranked), &[], now))).collect()
    };
    let places = std::thread::scope(|scope| {
        let orders = [[1, 2, 3, 4], [2, 3, 4, 1], [3, 4, 1, 2], [4, 1, 2, 3]];
        let threads = orders.map(|order| scope.spawn(move || places(order)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(places.iter().all(|of_thread| *of_thread == places[0]));
    assert_eq!(router.pin_counts().total(), 500);
    assert_eq!((1..=4).map(|number| bench.node(number).pins()).sum::<u64>(), 500);
}
