//! The store says nothing, neither that a beat succeeded nor that it failed.

mod support;

use std::time::Duration;

use ctedge_ownership::{Command, Fence, LeaseEnd, OwnershipSettings, Wants};
use support::{Node, key, lease};

/// Lets time pass in steps, in which no command is answered. Whether the node might serve at each of them.
fn silence(node: &mut Node, steps: u32, step: Duration) -> Vec<bool> {
    let one = |_| {
        node.now += step;
        node.ownership.timeout(node.now);
        while node.ownership.next_action().is_some() {}
        node.ownership.fence().is_open(node.now)
    };
    (0..steps).map(one).collect()
}

#[test]
fn a_node_goes_on_though_it_waits_for_an_answer_for_longer_than_a_lease_lives() {
    let mut node = Node::beside_another();
    node.serve(Wants::New);
    let open = silence(&mut node, 200, Duration::from_millis(100));
    assert!(open.iter().all(|open| *open), "{open:?}");
    assert!(matches!(node.ownership.fence(), Fence::CutOffUntil(_)));
}

#[test]
fn the_records_of_a_dead_node_wait_anew_after_an_outage_in_which_nobody_could_ask_for_them() {
    let settings = OwnershipSettings::default();
    let mut node = Node::beside_another();
    node.store.execute(&Command::Create { key: key(), by: lease("b") });
    node.store.execute(&Command::EndLease { lease: lease("b"), beat: None, why: LeaseEnd::Exited });
    let beats = |node: &mut Node, time: Duration| {
        for _ in 0..time.as_secs() {
            node.now += settings.beat_every;
            node.ownership.timeout(node.now);
            node.carry_out();
        }
    };
    beats(&mut node, settings.reap_after - Duration::from_secs(2));
    for _ in 0..30 {
        node.now += settings.beat_every;
        node.ownership.timeout(node.now);
        node.fail();
    }
    beats(&mut node, settings.reap_after - Duration::from_secs(2));
    assert_eq!(node.owner().map(|(owner, _)| owner), Some(lease("b")), "it still waits for its peers");
    beats(&mut node, Duration::from_secs(5));
    assert_eq!(node.owner(), None);
}

#[test]
fn a_node_that_stood_still_meanwhile_does_not_go_on() {
    let mut node = Node::beside_another();
    node.serve(Wants::New);
    let lost_after = OwnershipSettings::default().lost_after;
    assert_eq!(silence(&mut node, 1, 2 * lost_after), [false]);
    let open = silence(&mut node, 100, Duration::from_millis(100));
    assert!(open.iter().all(|open| !*open), "{open:?}");
}
