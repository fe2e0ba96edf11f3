//! The bounds of a session, each with its refusal.

mod support;

use ctedge_session::{CloseReason, SessionLimits};
use support::{World, messages};

/// Plays steps among these peers under these bounds, and compares what comes of the last one.
fn check(limits: SessionLimits, peers: &[&str], steps: &[&str], expected: &[&str]) {
    let mut world = World::with_peers(limits, peers);
    let mut last = Vec::new();
    for step in steps {
        last = world.step(step);
    }
    assert_eq!(last, expected, "{steps:?}");
}

#[test]
fn a_session_takes_so_many_peers() {
    let limits = SessionLimits { peers_max: 2, ..SessionLimits::default() };
    check(limits.clone(), &["h", "a"], &["b attaches"], &["refused: the session is full"]);
    check(limits.clone(), &["h", "a"], &["b asks to join"], &["refused: the session is full"]);
    check(limits.clone(), &["h", "a"], &["a is cut", "b attaches"], &["refused: the session is full"]);
    check(limits.clone(), &["h", "a"], &["a is cut", "a attaches"], &["a is back"]);
    // A place that is promised to one guest is not promised to another.
    check(limits, &["h"], &["a asks to join", "b asks to join"], &["refused: the session is full"]);
}

#[test]
fn so_many_join_requests_wait() {
    let limits = SessionLimits { joins_max: 1, ..SessionLimits::default() };
    check(limits.clone(), &["h"], &["a asks to join", "b asks to join"], &["refused: the session is full"]);
    check(
        limits,
        &["h"],
        &["a asks to join", "h says refuse #1", "b asks to join"],
        &["h gets request #2 peer/join b"],
    );
}

#[test]
fn so_many_requests_wait_for_a_response() {
    let limits = SessionLimits { requests_in_flight_max: 1, ..SessionLimits::default() };
    let refused = ["a gets response-error 8 \"too many requests wait for a response.\""];
    check(limits.clone(), &["h", "a"], &["a says request 7 to h", "a says request 8 to h"], &refused);
    check(
        limits,
        &["h", "a"],
        &["a says request 7 to h", "h says response #1", "a says request 8 to h"],
        &["h gets request #2 question from a with the key of h"],
    );
}

#[test]
fn a_message_has_so_many_bytes() {
    let limits = SessionLimits { message_bytes_max: 100, ..SessionLimits::default() };
    let refused = ["a gets response-error 7 \"the request is too large.\"", "warning: a TooLarge"];
    check(limits.clone(), &["h", "a"], &["a says request 7 to h"], &refused);
    check(limits, &["h", "a"], &["a says broadcast hi"], &["warning: a TooLarge"]);
}

#[test]
fn a_guest_that_does_not_read_is_closed_and_has_left() {
    let limits = SessionLimits { outbox_bytes_max: 3000, ..SessionLimits::default() };
    let mut world = World::with_peers(limits, &["h", "a", "b"]);
    let slow = world.clients["a"].attached.unwrap();
    // The slow guest's transport is there but reads nothing.
    world.clients.get_mut("a").unwrap().attached = None;
    assert_eq!(world.step("b says request 7 to a"), [] as [&str; 0]);
    let mut outcome = Vec::new();
    for _ in 0..20 {
        assert_eq!(world.session.closing(slow.peer, slow.attachment), None);
        world.send("h", messages::broadcast(&[0; 400], &["a"]));
        outcome = world.step("0 s pass");
        if !outcome.is_empty() {
            break;
        }
    }
    assert_eq!(
        outcome,
        [
            "b gets response-error 7 \"the peer has left the session.\"",
            "b gets broadcast room/left a",
            "h gets broadcast room/left a",
            "audit: left: a",
            "close ? (outbox-full)",
        ]
    );
    assert_eq!(world.session.closing(slow.peer, slow.attachment), Some(CloseReason::OutboxFull));
    assert_eq!(world.session.outbox(slow.peer).unwrap().bytes(), 0);
    world.session.detach(slow.peer, slow.attachment, world.now);
    assert_eq!(world.session.closing(slow.peer, slow.attachment), Some(CloseReason::Gone));
    assert_eq!(world.session.peer_count(), 2);
}

#[test]
fn a_host_that_does_not_read_ends_the_session() {
    let limits = SessionLimits { outbox_bytes_max: 1000, ..SessionLimits::default() };
    let mut world = World::with_peers(limits, &["h", "a"]);
    world.step("h is cut");
    world.send("a", messages::broadcast(&[0; 1000], &["h"]));
    assert_eq!(
        world.step("0 s pass"),
        [
            "a gets broadcast room/closed",
            "audit: left: a",
            "audit: ended (host-outbox-full): h",
            "close a (session-ended)",
            "ended (host-outbox-full)",
            "finished",
        ]
    );
}

#[test]
fn a_peer_of_which_a_message_was_lost_goes() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a", "b"]);
    let [host, guest] = ["h", "a"].map(|name| world.clients[name].attached.unwrap());
    world.session.lose_message_of(guest.peer, world.now);
    assert_eq!(
        world.step("0 s pass"),
        ["b gets broadcast room/left a", "h gets broadcast room/left a", "audit: left: a", "close a (held-full)"]
    );
    world.session.lose_message_of(host.peer, world.now);
    assert_eq!(world.session.closing(host.peer, host.attachment), Some(CloseReason::HeldFull));
    assert!(world.step("0 s pass").contains(&"ended (host-held-full)".to_owned()));
}

#[test]
fn a_join_of_a_host_that_does_not_read_fails_with_the_session() {
    let limits = SessionLimits { outbox_bytes_max: 700, ..SessionLimits::default() };
    let mut world = World::with_peers(limits, &["h"]);
    world.step("h is cut");
    let mut outcome = Vec::new();
    for _ in 0..5 {
        outcome = world.step("x asks to join");
        if !outcome.is_empty() {
            break;
        }
    }
    assert_eq!(outcome[0], "join 1 failed: the session has ended");
    assert_eq!(outcome.last().map(String::as_str), Some("finished"));
}

#[test]
fn an_early_or_repeated_timeout_does_nothing() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    world.step("a says request 7 to h");
    world.step("a is cut");
    world.session.handle_timeout(world.now);
    world.session.handle_timeout(world.now);
    assert_eq!(world.step("0 s pass"), [] as [&str; 0]);
    assert_eq!(world.session.requests_in_flight(), 1);
}
