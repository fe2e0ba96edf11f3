//! What peers send each other.

mod support;

use support::World;

/// Plays steps among the host and two guests who have joined, and compares what comes of the last one.
fn check(steps: &[&str], expected: &[&str]) {
    let mut world = World::with_peers(ctedge_session::SessionLimits::default(), &["h", "a", "b"]);
    let mut last = Vec::new();
    for step in steps {
        last = world.step(step);
    }
    assert_eq!(last, expected, "{steps:?}");
}

#[test]
fn a_broadcast_reaches_all_others_with_their_own_key_and_its_true_origin() {
    check(
        &["a says broadcast hi"],
        &["b gets broadcast hi from a with the key of b", "h gets broadcast hi from a with the key of h"],
    );
    check(
        &["h says broadcast hi for b,a"],
        &["a gets broadcast hi from h with the key of a", "b gets broadcast hi from h with the key of b"],
    );
}

#[test]
fn a_broadcast_does_not_reach_whom_it_has_no_key_for() {
    check(&["a says broadcast hi for b"], &["b gets broadcast hi from a with the key of b"]);
    check(&["a says broadcast hi for x"], &[]);
}

#[test]
fn a_notification_reaches_its_target_only() {
    check(&["a says notification hi to b"], &["b gets notification hi from a with the key of b"]);
    check(&["a says notification hi to x"], &[]);
}

#[test]
fn a_request_gets_a_fresh_id_and_its_response_the_old_one_back() {
    check(&["a says request 7 to h"], &["h gets request #1 question from a with the key of h"]);
    check(&["a says request 7 to h", "h says response #1"], &["a gets response 7 answer with the key of ?"]);
    check(&["a says request 7 to h", "h says error #1"], &["a gets response-error 7 error with the key of ?"]);
    check(
        &["a says request 7 to h", "b says request 7 to h", "h says response #2"],
        &["b gets response 7 answer with the key of ?"],
    );
}

#[test]
fn a_response_counts_once_and_only_from_the_peer_that_was_asked() {
    check(&["a says request 7 to h", "b says response #1"], &[]);
    check(
        &["a says request 7 to h", "b says response #1", "h says response #1"],
        &["a gets response 7 answer with the key of ?"],
    );
    check(&["a says request 7 to h", "h says response #1", "h says response #1"], &[]);
    check(&["h says response #9"], &[]);
    check(&["h says response 9"], &[]);
}

#[test]
fn a_request_that_nobody_can_answer_fails_at_once() {
    check(&["a says request 7 to x"], &["a gets response-error 7 \"the peer is not in the session.\""]);
    check(
        &["a says request 7 to b", "b leaves"],
        &[
            "a gets response-error 7 \"the peer has left the session.\"",
            "a gets broadcast room/left b",
            "h gets broadcast room/left b",
            "audit: left: b",
            "close b (left)",
        ],
    );
}

#[test]
fn a_request_without_a_response_fails_after_its_time() {
    check(&["a says request 7 to b", "29 s pass"], &[]);
    check(
        &["a says request 7 to b", "29 s pass", "b says request 8 to a", "1 s pass"],
        &["a gets response-error 7 \"the peer did not answer in time.\""],
    );
    check(&["a says request 7 to b", "30 s pass", "b says response #1"], &[]);
}

#[test]
fn a_request_reaches_a_peer_that_is_away_for_a_moment() {
    check(
        &["b is cut", "a says request 7 to b", "b attaches"],
        &["b is back", "b gets request #1 question from a with the key of b"],
    );
    check(
        &["a says request 7 to b", "a is cut", "b says response #1", "a attaches"],
        &["a is back", "a gets response 7 answer with the key of ?"],
    );
}

#[test]
fn what_is_not_encrypted_is_dropped_with_one_warning() {
    let warning = ["warning: a Unencrypted"];
    check(&["a says plain broadcast hi"], &warning);
    check(&["a says plain notification hi to b"], &warning);
    check(&["a says plain request 7 to b"], &warning);
    check(&["b says request 7 to a", "a says plain response #1"], &warning);
    check(&["a says plain broadcast hi", "a says plain broadcast hi"], &[]);
}

#[test]
fn an_incompatible_version_is_ignored_with_one_warning() {
    check(&["a says version 0.4.0 broadcast hi"], &["warning: a IncompatibleVersion"]);
    check(&["a says version x broadcast hi"], &["warning: a IncompatibleVersion"]);
    check(&["a says version 0.4.0 broadcast hi", "a says version 1.0.0 broadcast hi"], &[]);
    check(&["a says version 0.3.7 notification hi to b"], &["b gets notification hi from a with the key of b"]);
}

#[test]
fn what_is_no_message_is_ignored_with_one_warning() {
    check(&["a says nonsense"], &["warning: a Malformed(Unexpected)"]);
    check(&["a says nonsense", "a says nonsense"], &[]);
    check(&["a says something new"], &[]);
}

#[test]
fn everything_that_is_dropped_is_counted() {
    let mut world = World::with_peers(ctedge_session::SessionLimits::default(), &["h", "a", "b"]);
    world.session.take_counters();
    for step in [
        "a says broadcast hi",
        "a says broadcast hi for b",
        "a says plain broadcast hi",
        "a says nonsense",
        "a says something new",
        "a says notification hi to x",
        "a says response #9",
        "a says request 7 to x",
        "a says version 9.9.9 broadcast hi",
    ] {
        world.step(step);
    }
    let counted = world.session.take_counters();
    assert_eq!((counted.received, counted.delivered, counted.keys_missing, counted.unencrypted), (9, 4, 1, 1));
    assert_eq!((counted.malformed, counted.unknown, counted.unknown_targets, counted.stray_responses), (1, 1, 1, 1));
    assert_eq!((counted.requests_failed, counted.incompatible, counted.too_large), (1, 1, 0));
    assert_eq!(world.session.take_counters(), ctedge_session::Counters::default());
}

#[test]
fn requests_of_a_peer_that_left_wait_no_longer() {
    let mut world = World::with_peers(ctedge_session::SessionLimits::default(), &["h", "a", "b"]);
    world.step("a says request 7 to h");
    world.step("b says request 7 to h");
    assert_eq!(world.session.requests_in_flight(), 2);
    world.step("a leaves");
    assert_eq!(world.session.requests_in_flight(), 1);
}

#[test]
fn a_peer_is_woken_once_for_any_number_of_messages_until_the_wake_is_taken() {
    let mut world = World::with_peers(ctedge_session::SessionLimits::default(), &["h", "a"]);
    let host = world.clients["h"].attached.unwrap().peer;
    // Its first word is also said of it.
    world.step("a says broadcast x");
    for _ in 0..2 {
        for _ in 0..3 {
            world.send("a", support::messages::broadcast(b"hi", &["h"]));
        }
        let actions: Vec<_> = std::iter::from_fn(|| world.session.next_action()).collect();
        assert_eq!(actions, [ctedge_session::Action::Wake(host)]);
    }
}
