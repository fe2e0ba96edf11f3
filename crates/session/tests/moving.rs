//! A session gives up its transports: the host's first, and not before everybody's last words are relayed.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use ctedge_session::{Action, CloseReason, CutReason, SessionLimits};
use support::World;

/// The actions of the session, in words. Transports are not closed by it.
fn said(world: &mut World) -> Vec<String> {
    let actions: Vec<Action> = std::iter::from_fn(|| world.session.next_action()).collect();
    actions.into_iter().filter_map(|action| describe(world, &action)).collect()
}

fn describe(world: &World, action: &Action) -> Option<String> {
    let name = |peer| world.session.peer_id(peer).map_or("?", |id| id.as_str()).to_owned();
    match action {
        Action::ClosePeer { peer, reason } => Some(format!("close {} ({})", name(*peer), reason.as_str())),
        Action::Displaced { peer, .. } => Some(format!("cut {}", name(*peer))),
        Action::MoveReady => Some("ready".to_owned()),
        _ => None,
    }
}

/// How long a move may take.
const WITHIN: Duration = Duration::from_secs(60);

fn closing(world: &World, name: &str) -> Option<CloseReason> {
    let attached = world.clients[name].attached.unwrap();
    world.session.closing(attached.peer, attached.attachment)
}

fn moving(names: &[&str]) -> World {
    let mut world = World::with_peers(SessionLimits::default(), names);
    world.session.begin_move(WITHIN, world.now);
    world
}

#[test]
fn the_host_is_sent_away_first_and_the_guests_when_it_has_gone() {
    let mut world = moving(&["h", "a", "b"]);
    assert_eq!(said(&mut world), ["close h (moved)"]);
    assert_eq!((closing(&world, "h"), closing(&world, "a")), (Some(CloseReason::Moved), None));
    world.cut("h");
    assert_eq!(said(&mut world), ["close a (moved)", "close b (moved)"]);
    world.cut("a");
    assert_eq!(said(&mut world), Vec::<String>::new());
    world.cut("b");
    assert_eq!(said(&mut world), ["ready"]);
}

#[test]
fn a_host_that_does_not_go_does_not_keep_its_guests() {
    let mut world = moving(&["h", "a"]);
    said(&mut world);
    world.now += Duration::from_secs(1);
    world.session.handle_timeout(world.now);
    assert_eq!(said(&mut world), ["close a (moved)"]);
}

#[test]
fn transports_that_do_not_go_are_cut_and_what_they_still_bring_does_not_count() {
    let mut world = moving(&["h", "a"]);
    let due = world.now + Duration::from_secs(5);
    world.now = due;
    world.session.handle_timeout(due);
    assert_eq!(said(&mut world), ["close h (moved)", "close a (moved)", "cut h", "cut a", "ready"]);
    assert_eq!(closing(&world, "a"), Some(CloseReason::Displaced));
    world.send("a", support::messages::broadcast(b"too late", &["h"]));
    let host = world.clients["h"].attached.unwrap().peer;
    assert!(world.session.outbox(host).unwrap().is_empty());
    assert_eq!(world.session.cut_short(), Some((2, CutReason::Silent)));
    world.cut("a");
    assert_eq!(said(&mut world), Vec::<String>::new());
}

#[test]
fn a_peer_that_still_brings_something_is_waited_for_until_the_time_of_the_move_is_over() {
    let mut world = moving(&["h", "a"]);
    world.cut("h");
    said(&mut world);
    for _ in 0..14 {
        world.now += Duration::from_secs(4);
        world.session.heard(world.now);
        world.session.handle_timeout(world.now);
        assert_eq!(said(&mut world), Vec::<String>::new());
    }
    world.now += Duration::from_secs(4);
    world.session.heard(world.now);
    world.session.handle_timeout(world.now);
    assert_eq!(said(&mut world), ["cut a", "ready"]);
    assert_eq!(world.session.cut_short(), Some((1, CutReason::Time)));
}

#[test]
fn who_cannot_come_back_while_the_session_moves_is_not_given_up_for_it() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a", "b"]);
    world.cut("b");
    world.step("10 s pass");
    world.session.begin_move(WITHIN, world.now);
    world.cut("h");
    for _ in 0..10 {
        world.now += Duration::from_secs(4);
        world.session.heard(world.now);
        world.session.handle_timeout(world.now);
    }
    world.session.cancel_move(world.now);
    said(&mut world);
    assert_eq!(world.step("h attaches"), ["h is back"]);
    assert_eq!(world.step("19 s pass"), Vec::<String>::new());
    assert_eq!(world.step("b attaches"), ["b is back"]);
}

#[test]
fn a_moving_session_relays_and_lets_nobody_in() {
    let mut world = moving(&["h", "a"]);
    assert_eq!(
        world.step("a says broadcast goodbye"),
        ["h gets broadcast goodbye from a with the key of h", "close h (moved)", "close a (moved)", "ready to move",]
    );
    assert_eq!(world.step("a attaches"), ["refused: the session moves to another node"]);
    assert_eq!(world.step("x asks to join"), ["refused: the session moves to another node"]);
}

#[test]
fn a_move_for_which_there_is_less_time_than_was_said_ends_sooner() {
    let mut world = moving(&["h", "a"]);
    said(&mut world);
    world.session.hasten_move(world.now + Duration::from_secs(3));
    // It has no more time by being asked once more.
    world.session.hasten_move(world.now + Duration::from_secs(50));
    for _ in 0..3 {
        world.session.heard(world.now);
        world.now += Duration::from_secs(1);
        world.session.handle_timeout(world.now);
    }
    assert_eq!(said(&mut world), ["close a (moved)", "cut h", "cut a", "ready"]);
    assert_eq!(world.session.cut_short(), Some((2, CutReason::Time)));
}

#[test]
fn a_session_without_transports_is_ready_at_once() {
    let mut world = World::with_peers(SessionLimits::default(), &["h"]);
    world.cut("h");
    world.session.begin_move(WITHIN, world.now);
    assert_eq!(said(&mut world), ["ready"]);
}

#[test]
fn a_displaced_transport_is_waited_for_too() {
    let mut world = World::with_peers(SessionLimits::default(), &["h"]);
    let older = world.clients["h"].attached.unwrap();
    world.step("h attaches");
    world.session.begin_move(WITHIN, world.now);
    world.cut("h");
    assert_eq!(said(&mut world), ["close h (moved)"]);
    world.session.detach(older.peer, older.attachment, world.now);
    assert_eq!(said(&mut world), ["ready"]);
}

#[test]
fn a_cancelled_move_leaves_the_session_as_it_was() {
    let mut world = moving(&["h", "a"]);
    world.step("1 s pass");
    world.session.cancel_move(world.now);
    assert_eq!(world.step("h attaches"), ["h is back"]);
    assert_eq!(world.step("a attaches"), ["a is back"]);
    assert_eq!(world.step("h says broadcast on"), ["a gets broadcast on from h with the key of a"]);
}
