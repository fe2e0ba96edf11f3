//! A session that was let go and is owned again: what is said of the former one changes nothing.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use ctedge_ownership::{
    Action, Command, Drain, Epoch, Estate, Event, HandoffReason, LeaseEnd, LetGo, LetGoReason, Origin, Verdict, Wants,
};
use support::{Node, key, lease};

#[test]
fn a_session_that_the_store_gives_to_another_is_let_go_once() {
    let mut node = Node::beside_another();
    let epoch = node.serve(Wants::New);
    node.decided.clear();
    for told in [Epoch(epoch.0 - 1), Epoch(epoch.0 + 1), epoch, epoch] {
        node.ownership.fenced(&key(), told, node.now);
        node.carry_out();
    }
    let let_go = |action: &&Action| matches!(action, Action::LetGo { which: LetGo::One(which), .. } if *which == key());
    assert_eq!(node.decided.iter().filter(let_go).count(), 1, "{:?}", node.decided);
    assert!(node.decided.contains(&Action::Count(Event::Fenced(LetGoReason::EpochPassed))));
    assert_eq!(node.ownership.sessions(), 0);
}

#[test]
fn the_late_end_of_a_session_that_was_lost_does_not_end_its_successor() {
    let mut node = Node::beside_another();
    let first = node.serve(Wants::New);
    let second = node.loses_and_takes_over(first);
    assert!(second > first);
    node.ownership.session_ended(&key(), first, node.now);
    node.carry_out();
    assert_eq!(node.owner(), Some((lease("a"), second)));
    let begins = |action: &&Action| matches!(action, Action::Begin { epoch, .. } if *epoch == second);
    assert_eq!(node.decided.iter().filter(begins).count(), 1, "it goes on as it was");
    node.ownership.session_ended(&key(), second, node.now);
    node.carry_out();
    assert_eq!(node.owner(), None);
}

#[test]
fn who_comes_while_a_session_is_deleted_finds_what_another_node_has_begun_since() {
    let mut node = Node::beside_another();
    let epoch = node.serve(Wants::New);
    node.ownership.session_ended(&key(), epoch, node.now);
    let delete = std::iter::from_fn(|| node.ownership.next_action()).find_map(|action| match action {
        Action::Store(id, command @ Command::Delete { .. }) => Some((id, node.store.execute(&command))),
        _ => None,
    });
    let (id, deleted) = delete.unwrap();
    node.store.execute(&Command::Create { key: key(), by: lease("b") });
    node.asks(Wants::Existing);
    node.ownership.store_answered(id, Ok(deleted), node.now);
    node.carry_out();
    let is_sent_there =
        |action: &Action| matches!(action, Action::Answer(_, Verdict::Redirect { owner, .. }) if *owner == lease("b"));
    assert!(node.decided.iter().any(is_sent_there), "{:?}", node.decided);
}

#[test]
fn the_late_estate_of_a_session_that_was_lost_is_not_handed_over_for_its_successor() {
    let mut node = Node::beside_another();
    let first = node.serve(Wants::New);
    let second = node.loses_and_takes_over(first);
    node.store.execute(&Command::Register { lease: lease("c"), address: ([127, 0, 0, 1], 3).into(), pid: 3 });
    node.now += Duration::from_secs(1);
    node.ownership.timeout(node.now);
    node.carry_out();
    node.ownership
        .drain(Drain { deadline: Some(Duration::ZERO), exit: false, reason: HandoffReason::DrainNow }, node.now);
    node.carry_out();
    assert!(node.decided.contains(&Action::StartMoving { key: key(), epoch: second }), "{:?}", node.decided);
    assert!(!node.ownership.moved(&key(), first, Estate::default(), node.now));
    node.carry_out();
    assert_eq!(node.owner(), Some((lease("a"), second)));
    assert!(node.ownership.moved(&key(), second, Estate::default(), node.now));
    node.carry_out();
    assert_eq!(node.owner().map(|(owner, _)| owner), Some(lease("c")));
}

#[test]
fn a_drain_whose_deadline_no_clock_can_name_never_hands_over() {
    let mut node = Node::beside_another();
    node.serve(Wants::New);
    node.ownership.drain(Drain { deadline: Some(Duration::MAX), exit: true, reason: HandoffReason::Stop }, node.now);
    node.carry_out();
    assert_eq!(node.ownership.drain_progress(node.now).map(|progress| progress.deadline_left), Some(None));
    assert!(!node.decided.iter().any(|action| matches!(action, Action::StartMoving { .. })));
}

#[test]
fn a_session_that_nobody_can_take_when_it_is_ready_to_go_goes_on_where_it_was() {
    let mut node = Node::beside_another();
    let epoch = node.serve(Wants::New);
    node.ownership
        .drain(Drain { deadline: Some(Duration::ZERO), exit: false, reason: HandoffReason::DrainNow }, node.now);
    node.carry_out();
    assert!(node.decided.contains(&Action::StartMoving { key: key(), epoch }), "{:?}", node.decided);
    // The other node goes away while the session closes its transports.
    node.store.execute(&Command::EndLease { lease: lease("b"), beat: None, why: LeaseEnd::Exited });
    node.now += Duration::from_secs(1);
    node.ownership.timeout(node.now);
    node.carry_out();
    node.decided.clear();
    let estate = Estate { bytes: "everything".into(), ..Estate::default() };
    assert!(node.ownership.moved(&key(), epoch, estate.clone(), node.now));
    node.carry_out();
    let begun = Action::Begin { key: key(), epoch, origin: Origin::Estate(estate) };
    assert_eq!(node.decided, [begun, Action::Count(Event::TakenBack(HandoffReason::DrainNow))]);
    assert_eq!(node.owner(), Some((lease("a"), epoch)));
    assert_eq!(node.serve(Wants::Existing), epoch);
    // When one is ready again, the session goes there.
    node.decided.clear();
    node.store.execute(&Command::Register { lease: lease("c"), address: ([127, 0, 0, 1], 3).into(), pid: 3 });
    node.now += Duration::from_secs(1);
    node.ownership.timeout(node.now);
    node.carry_out();
    assert!(node.decided.contains(&Action::StartMoving { key: key(), epoch }), "{:?}", node.decided);
}
