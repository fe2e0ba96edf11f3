//! Another lease at a node's own address: a former process that is gone, or a living node that is set up wrongly.

mod support;

use std::time::Duration;

use ctedge_ownership::{Action, Command, Event, Lease, LeaseEnd, LeaseId, NodeId, Outcome, OwnershipSettings};
use ctedge_wire::NodeStatus;
use support::Node;

/// The lease of another process at the address of the bench's node.
fn other(node: &mut Node) -> LeaseId {
    let other = LeaseId::new(NodeId::new("twin"), 7);
    node.store.execute(&Command::Register { lease: other.clone(), address: ([127, 0, 0, 1], 1).into(), pid: 7 });
    other
}

/// Lets a second pass, in which `beats` may beat.
fn second(node: &mut Node, beats: Option<&LeaseId>) {
    if let Some(lease) = beats {
        let beat = Command::Beat { lease: lease.clone(), status: NodeStatus::Ready, report: String::new() };
        assert!(matches!(node.store.execute(&beat), Outcome::Beaten { .. }), "{lease} was ended");
    }
    for _ in 0..10 {
        node.now += Duration::from_millis(100);
        node.ownership.timeout(node.now);
        node.carry_out();
    }
}

fn ended(node: &Node, lease: &LeaseId) -> Option<LeaseEnd> {
    node.store.leases().find(|known| known.id == *lease).and_then(|known| known.ended)
}

#[test]
fn the_lease_of_a_former_process_is_ended_before_it_counts_as_silent() {
    let mut node = Node::beside_another();
    let former = other(&mut node);
    let lost_after = OwnershipSettings::default().lost_after.as_secs();
    (0..lost_after).for_each(|_| second(&mut node, None));
    assert_eq!(ended(&node, &former), Some(LeaseEnd::Replaced));
    assert!(node.decided.contains(&Action::Count(Event::EndedFormerLease)));
    assert_eq!(node.ownership.namesake(), None);
}

#[test]
fn a_living_node_with_the_same_address_is_named_and_not_fought() {
    let mut node = Node::beside_another();
    let twin = other(&mut node);
    (0..20).for_each(|_| second(&mut node, Some(&twin)));
    assert_eq!(ended(&node, &twin), None);
    let namesake = node.ownership.namesake().map(|lease: &Lease| &lease.id);
    assert_eq!(namesake, Some(&twin));

    // It dies: then it falls silent, is probed, and is ended like any other.
    node.decided.clear();
    let probed =
        |node: &Node| node.decided.iter().any(|done| matches!(done, Action::Probe(lease, _) if *lease == twin));
    while !probed(&node) {
        assert_eq!(ended(&node, &twin), None);
        second(&mut node, None);
    }
    node.ownership.probe_answered(&twin, false, node.now);
    node.carry_out();
    assert_eq!(ended(&node, &twin), Some(LeaseEnd::Silent));
    assert_eq!(node.ownership.namesake(), None);
}
