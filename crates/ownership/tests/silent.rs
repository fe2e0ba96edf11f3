//! The lease of another node that is silent, and is ended.

mod support;

use std::time::Duration;

use ctedge_ownership::{Action, CommandId, Event, Outcome};
use support::{Node, lease};

/// Lets time pass up to the next command. What the store says to it; the node has not heard it yet.
fn unheard(node: &mut Node) -> (CommandId, Outcome) {
    loop {
        while let Some(action) = node.ownership.next_action() {
            match action {
                Action::Store(id, command) => return (id, node.store.execute(&command)),
                other => node.decided.push(other),
            }
        }
        node.now += Duration::from_millis(100);
        node.ownership.timeout(node.now);
    }
}

fn probes(node: &Node) -> usize {
    node.decided.iter().filter(|action| matches!(action, Action::Probe(of, _) if *of == lease("b"))).count()
}

#[test]
fn a_beat_that_was_answered_before_a_lease_was_ended_does_not_bring_it_back() {
    let mut node = Node::beside_another();
    while probes(&node) == 0 {
        let (id, outcome) = unheard(&mut node);
        node.ownership.store_answered(id, Ok(outcome), node.now);
        node.carry_out();
    }
    let (beat, before) = unheard(&mut node);
    let Outcome::Beaten { .. } = before else { panic!("{before:?}") };
    node.ownership.probe_answered(&lease("b"), false, node.now);
    node.carry_out();
    node.ownership.store_answered(beat, Ok(before), node.now);
    node.carry_out();
    assert!(node.ownership.ended_by_silence().eq([&lease("b")]), "balancers have to hear of it all the time");
    assert_eq!(probes(&node), 1);
    assert_eq!(node.decided.iter().filter(|action| **action == Action::Count(Event::EndedSilentLease)).count(), 1);
}
