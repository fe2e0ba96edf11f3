//! A node asks its own listener, and gives its sessions up when nobody gets in.

mod support;

use std::time::Duration;

use ctedge_ownership::{Action, Command, Estate, Event, HandoffReason, Wants};
use ctedge_wire::NodeStatus;
use support::{Node, key, lease};

/// Answers the next questions to the own listener, each as it comes. The other node beats all the time.
fn answered(node: &mut Node, answers: &[bool]) {
    for answer in answers {
        while !node.decided.contains(&Action::ProbeOneself) {
            node.now += Duration::from_millis(100);
            let (lease, status, report) = (lease("b"), NodeStatus::Ready, String::new());
            node.store.execute(&Command::Beat { lease, status, report });
            node.ownership.timeout(node.now);
            node.carry_out();
        }
        node.decided.retain(|action| *action != Action::ProbeOneself);
        node.ownership.listener_answered(*answer, node.now);
        node.carry_out();
    }
}

#[test]
fn a_node_that_answers_now_and_then_is_not_deaf() {
    let mut node = Node::beside_another();
    node.serve(Wants::New);
    answered(&mut node, &[true, false, false, true, false, false, true]);
    assert!(!node.decided.contains(&Action::Count(Event::Deaf)));
    assert_eq!(node.ownership.drain_progress(node.now), None);
}

/// How often the graces of who is away were renewed.
fn renewals(node: &Node) -> usize {
    node.decided.iter().filter(|action| **action == Action::RenewGraces).count()
}

#[test]
fn a_node_that_answers_now_and_then_renews_no_graces_for_ever() {
    let mut node = Node::beside_another();
    node.serve(Wants::New);
    answered(&mut node, &[false, false, true]);
    assert_eq!(renewals(&node), 2, "once for each question without an answer");
    for _ in 0..20 {
        answered(&mut node, &[false, false, true]);
    }
    assert_eq!(renewals(&node), 3);
    answered(&mut node, &[true; 20]);
    answered(&mut node, &[false, false, true]);
    assert_eq!(renewals(&node), 5, "it was heard for a minute");
}

#[test]
fn a_deaf_node_gives_its_sessions_away_and_ends() {
    let mut node = Node::beside_another();
    let epoch = node.serve(Wants::New);
    answered(&mut node, &[true, false, false, false]);
    assert!(node.decided.contains(&Action::Count(Event::Deaf)), "{:?}", node.decided);
    let place = |action: &Action| node.decided.iter().rposition(|decided| decided == action);
    let moves = place(&Action::StartMoving { key: key(), epoch });
    assert!(
        moves.is_some() && place(&Action::RenewGraces) < moves,
        "the next owner gets whole graces: {:?}",
        node.decided
    );
    answered(&mut node, &[false]);
    assert_eq!(renewals(&node), 4, "what is still here waits for its turn");
    assert!(node.ownership.moved(&key(), epoch, Estate::default(), node.now));
    node.carry_out();
    assert!(node.decided.contains(&Action::Count(Event::HandedOff(HandoffReason::Deaf))), "{:?}", node.decided);
    assert!(node.decided.contains(&Action::DrainFinished { exit: true }), "{:?}", node.decided);
}
