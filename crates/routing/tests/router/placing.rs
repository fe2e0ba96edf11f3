//! Where a key goes, and what becomes of it when nodes leave the list or take nothing new.

use ctedge_routing::{Choice, NodeSpec, NodeState, PinReason, Standing};
use ctedge_wire::{HealthReport, NodeStatus};

use crate::support::{Bench, address, addresses, key, spec};

#[test]
fn a_key_without_a_pin_goes_to_its_first_rank() {
    let bench = Bench::new(&[1, 2, 3]);
    assert_eq!(bench.named("k", &[2, 1, 3]), (2, PinReason::Placed));
}

#[test]
fn a_pinned_key_stays_when_the_ranks_change() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.named("k", &[2, 1, 3]);
    bench.list(&[1, 2, 3, 4]);
    bench.says(4, None);
    assert_eq!(bench.named("k", &[4, 1, 2, 3]), (2, PinReason::Placed));
    assert_eq!(bench.named("other", &[4, 1, 2, 3]), (4, PinReason::Placed));
}

#[test]
fn a_node_that_leaves_the_list_keeps_its_keys_until_it_is_down_and_gets_no_new_ones() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[2, 1]);
    bench.list(&[1]);
    bench.pass(55);
    bench.router.expire(bench.now());
    assert_eq!(bench.named("k", &[1]).0, 2);
    assert_eq!(bench.named("new", &[2, 1]), (1, PinReason::NextRank));
    bench.pass(10);
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 2, "it is still there to be checked");
    bench.dies(2);
    assert_eq!(bench.named("k", &[1]), (1, PinReason::Failover));
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 1);
}

#[test]
fn a_node_that_left_the_list_is_forgotten_when_it_keeps_nothing() {
    let bench = Bench::new(&[1, 2]);
    bench.list(&[1]);
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 2, "a request may have chosen it a moment ago");
    bench.pass(60);
    bench.router.expire(bench.now());
    assert_eq!(bench.router.nodes().len(), 1);
}

#[test]
fn a_node_id_may_come_back_with_its_keys_or_at_another_address() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[2, 1]);
    bench.list(&[1]);
    let changes = bench.router.set_nodes(&[spec(1), spec(2)], bench.now());
    assert_eq!((changes.added.len(), changes.returned.len(), changes.removed.len()), (0, 1, 0));
    assert_eq!(bench.named("k", &[2, 1]), (2, PinReason::Placed));

    let moved = NodeSpec { address: address(22), ..spec(2) };
    bench.router.set_nodes(&[spec(1), moved], bench.now());
    let node = bench.node(2);
    assert_eq!(node.address(), address(22), "the listed one has the name");
    bench.router.check_succeeded(&node, None, bench.now(), bench.now());
    assert_eq!(bench.named("k", &[22, 1]).0, 2, "the key still lives at the old address");
    assert_eq!(bench.named("new", &[22, 1]).0, 22);
}

#[test]
fn draining_and_suspended_nodes_get_no_new_keys_but_keep_their_own() {
    for status in [NodeStatus::Draining, NodeStatus::Suspended] {
        let bench = Bench::new(&[1, 2]);
        bench.named("k", &[1, 2]);
        bench.says(1, Some((status, 1)));
        assert_eq!(bench.named("k", &[1, 2]), (1, PinReason::Placed));
        for standing in [Standing::Named, Standing::Fresh] {
            let name = format!("{standing:?}");
            assert_eq!(bench.asks(&name, standing, &[1, 2]), (2, PinReason::NextRank));
        }
    }
}

#[test]
fn an_issued_key_whose_pin_was_lost_finds_its_draining_node_but_is_not_placed_on_a_second_one() {
    let bench = Bench::new(&[1, 2, 3]);
    bench.drains(1);
    bench.drains(2);
    assert_eq!(bench.asks("k", Standing::Issued, &[1, 2, 3]), (1, PinReason::Placed));
    bench.dies(1);
    assert_eq!(bench.asks("k", Standing::Issued, &[1, 2, 3]), (3, PinReason::Failover));
    assert_eq!(bench.asks("l", Standing::Issued, &[1, 2, 3]), (3, PinReason::NextRank));
}

#[test]
fn where_nobody_takes_new_keys_a_node_that_shares_ownership_is_asked_whose_an_old_one_is() {
    let bench = Bench::new(&[1, 2, 3]);
    let drains = |number: u16, shares_ownership| {
        let (status, node) = (NodeStatus::Draining, format!("n{number}"));
        let report = HealthReport { status, node, shares_ownership, ..HealthReport::default() };
        bench.router.check_succeeded(&bench.node(number), Some(report), bench.now(), bench.now());
    };
    bench.dies(1);
    drains(2, false);
    drains(3, true);
    for standing in [Standing::Named, Standing::Issued] {
        let name = format!("{standing:?}");
        assert_eq!(bench.asks(&name, standing, &[1, 2, 3]), (3, PinReason::NextRank));
        assert!(matches!(bench.choose(&name, standing, &[1, 2, 3], &[3]), Choice::Unreachable(_) | Choice::NoneUp));
    }
    assert!(matches!(bench.choose("new", Standing::Fresh, &[1, 2, 3], &[]), Choice::NoneUp));
}

#[test]
fn an_order_of_the_operator_counts_for_a_server_that_knows_no_states() {
    let bench = Bench::new(&[1, 2]);
    bench.named("k", &[1, 2]);
    let change = bench.router.order(&bench.node(1), NodeStatus::Suspended, bench.now()).unwrap();
    assert_eq!(change.to, NodeState::Suspended);
    bench.says(1, None);
    assert_eq!(bench.named("new", &[1, 2]).0, 2);
    assert_eq!(bench.named("k", &[1, 2]).0, 1);
}

#[test]
fn an_explanation_says_where_the_next_request_goes_and_changes_nothing() {
    let bench = Bench::new(&[1, 2, 3]);
    let explain = || bench.router.explain(&key("k"), addresses(&[1, 2, 3]), bench.now());
    let unpinned = explain();
    assert_eq!((unpinned.node.unwrap().as_str(), unpinned.reason, unpinned.pin.is_none()), ("n1", "placed", true));
    assert_eq!(unpinned.why, "The key is not pinned yet; it would go to n1: placement ranks n1 first.");
    assert_eq!(bench.router.pin_counts().total(), 0);

    bench.drains(1);
    assert_eq!(explain().reason, "next_rank");
    bench.named("k", &[2, 1, 3]);
    bench.pass(5);
    let pinned = explain();
    let pin = pinned.pin.unwrap();
    assert_eq!((pinned.reason, pin.age_s, pin.idle_s, pin.settled), ("placed", 5, 5, true));
    assert_eq!(pinned.ranked.iter().map(|ranked| ranked.node.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);

    bench.dies(2);
    let failing = explain();
    assert_eq!((failing.node.unwrap().as_str(), failing.reason), ("n3", "failover"));
    assert_eq!(failing.why, "The key lived on n2, which is down; n3 is the best node that takes it.");
    bench.dies(1);
    bench.dies(3);
    let json = serde_json::to_value(explain()).unwrap();
    assert_eq!(
        (&json["key"], &json["node"], &json["reason"]),
        (&"k".into(), &serde_json::Value::Null, &"none_up".into())
    );
    assert_eq!(json["pin"]["state"], "down");
}
