//! Whatever happens to a session is counted with why it happened.

mod support;

use std::time::Duration;

use ctedge_ownership::{
    Action, Command, Drain, Epoch, Estate, Event, HandoffReason, LeaseEnd, LetGoReason, Outcome, RedirectReason, Wants,
};
use support::{Node, key, lease};

/// What was counted since the last time that this was asked.
fn counted(node: &mut Node) -> Vec<Event> {
    let counted = node.decided.drain(..).filter_map(|action| match action {
        Action::Count(event) => Some(event),
        _ => None,
    });
    counted.collect()
}

/// The other node of the bench owns the session.
fn owned_by_the_other(node: &mut Node) -> Epoch {
    match node.store.execute(&Command::Create { key: key(), by: lease("b") }) {
        Outcome::Owned { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_handoff_says_what_was_ordered() {
    for reason in HandoffReason::ALL {
        let mut node = Node::beside_another();
        let epoch = node.serve(Wants::New);
        node.ownership.drain(Drain { deadline: Some(Duration::ZERO), exit: false, reason }, node.now);
        node.carry_out();
        counted(&mut node);
        assert!(node.ownership.moved(&key(), epoch, Estate::default(), node.now));
        node.carry_out();
        assert_eq!(counted(&mut node), [Event::HandedOff(reason)]);
    }
}

#[test]
fn a_session_that_has_begun_to_move_keeps_the_reason_that_it_began_for() {
    let mut node = Node::beside_another();
    let epoch = node.serve(Wants::New);
    let drain = |reason| Drain { deadline: Some(Duration::ZERO), exit: false, reason };
    node.ownership.drain(drain(HandoffReason::DrainDeadline), node.now);
    node.ownership.drain(drain(HandoffReason::Stop), node.now);
    node.carry_out();
    counted(&mut node);
    assert!(node.ownership.moved(&key(), epoch, Estate::default(), node.now));
    node.carry_out();
    assert_eq!(counted(&mut node), [Event::HandedOff(HandoffReason::DrainDeadline)]);
}

#[test]
fn a_takeover_says_how_the_owner_ended() {
    for why in LeaseEnd::ALL {
        let mut node = Node::beside_another();
        owned_by_the_other(&mut node);
        node.store.execute(&Command::EndLease { lease: lease("b"), beat: None, why });
        // Only the first word counts.
        node.store.execute(&Command::EndLease { lease: lease("b"), beat: None, why: LeaseEnd::Unknown });
        counted(&mut node);
        node.serve(Wants::Existing);
        assert_eq!(counted(&mut node), [Event::TakenOver(why)]);
    }
}

#[test]
fn what_its_owner_had_parked_is_taken_over_with_the_same_word() {
    let mut node = Node::beside_another();
    let epoch = owned_by_the_other(&mut node);
    let (estate, reason) = (Estate::default(), HandoffReason::Stop);
    let parked = Command::HandOff { key: key(), epoch, by: lease("b"), to: None, estate, reason };
    assert!(matches!(node.store.execute(&parked), Outcome::HandedOff { .. }));
    node.store.execute(&Command::EndLease { lease: lease("b"), beat: None, why: LeaseEnd::Left });
    counted(&mut node);
    node.serve(Wants::Existing);
    assert_eq!(counted(&mut node), [Event::EstateTakenOver(LeaseEnd::Left)]);
}

#[test]
fn a_redirect_says_whether_the_session_was_here() {
    let mut node = Node::beside_another();
    owned_by_the_other(&mut node);
    counted(&mut node);
    node.asks(Wants::Existing);
    node.carry_out();
    assert_eq!(counted(&mut node), [Event::Redirected(RedirectReason::Elsewhere)]);

    let mut node = Node::beside_another();
    let epoch = node.serve(Wants::New);
    let drain = Drain { deadline: Some(Duration::ZERO), exit: false, reason: HandoffReason::DrainNow };
    node.ownership.drain(drain, node.now);
    node.carry_out();
    node.asks(Wants::Existing);
    assert!(node.ownership.moved(&key(), epoch, Estate::default(), node.now));
    counted(&mut node);
    node.carry_out();
    let redirected = Event::Redirected(RedirectReason::HandedOff);
    assert_eq!(counted(&mut node), [Event::HandedOff(HandoffReason::DrainNow), redirected]);
}

#[test]
fn whoever_comes_late_for_a_takeover_says_that_another_was_faster() {
    let mut node = Node::beside_another();
    let from = owned_by_the_other(&mut node);
    node.store.execute(&Command::Register { lease: lease("c"), address: ([127, 0, 0, 1], 3).into(), pid: 3 });
    node.store.execute(&Command::EndLease { lease: lease("b"), beat: None, why: LeaseEnd::Exited });
    node.asks(Wants::Existing);
    // It has looked, and before it takes the session over, the third node does.
    node.carry_out_one_command();
    node.store.execute(&Command::TakeOver { key: key(), from, by: lease("c") });
    counted(&mut node);
    node.carry_out();
    assert_eq!(counted(&mut node), [Event::Redirected(RedirectReason::Outrun)]);
}

#[test]
fn a_session_that_is_let_go_says_what_the_node_has_lost() {
    let mut node = Node::beside_another();
    let epoch = node.serve(Wants::New);
    counted(&mut node);
    node.ownership.fenced(&key(), epoch, node.now);
    node.carry_out();
    assert_eq!(counted(&mut node), [Event::Fenced(LetGoReason::EpochPassed)]);

    let mut node = Node::beside_another();
    node.serve(Wants::New);
    counted(&mut node);
    node.store.execute(&Command::EndLease { lease: lease("a"), beat: None, why: LeaseEnd::Silent });
    node.now += Duration::from_secs(1);
    node.ownership.timeout(node.now);
    node.carry_out();
    assert_eq!(counted(&mut node), [Event::LeaseLost, Event::Fenced(LetGoReason::LeaseEnded)]);
}
