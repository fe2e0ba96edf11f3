//! What a peer is owed across transports, and which tokens admit to a session.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use ctedge_protocol::{Handshake, PeerId, RoomClaim};
use ctedge_session::{Attached, Beginning, CloseReason, EndReason, Refusal, Session, SessionLimits};
use ctedge_wire::Key;
use support::{HOST_CLOCK, World, messages};

fn world_with_five_unread() -> (World, Attached) {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    let attached = world.clients["a"].attached.unwrap();
    for number in 0..5 {
        world.send("h", messages::broadcast(&[number], &["a"]));
    }
    (world, attached)
}

fn owed(world: &World, attached: Attached, cursor: u64) -> Vec<u64> {
    world.session.outbox(attached.peer).unwrap().after(cursor).map(|(offset, _)| offset).collect()
}

#[test]
fn a_transport_starts_after_what_the_client_says_it_has() {
    // `peer/info` had the offset 1.
    for (recovered, expected) in
        [(None, 1), (Some(3), 3), (Some(6), 6), (Some(0), 1), (Some(7), 1), (Some(u64::MAX), 1)]
    {
        let (mut world, attached) = world_with_five_unread();
        let cursor = world.session.cursor_after(attached.peer, recovered);
        assert_eq!(cursor, expected, "{recovered:?}");
        assert_eq!(owed(&world, attached, cursor), ((expected + 1)..=6).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_written_but_not_proven_is_owed_again() {
    let (mut world, attached) = world_with_five_unread();
    world.session.acknowledge(attached.peer, 3);
    world.cut("a");
    world.attach("a", "key");
    assert_eq!(world.clients["a"].cursor, 3);
    assert_eq!(owed(&world, attached, 3), [4, 5, 6]);
}

#[test]
fn an_offset_of_an_earlier_life_is_never_taken_for_one_of_this_life() {
    let (mut world, _) = world_with_five_unread();
    world.step("a leaves");
    world.step("a attaches");
    let attached = world.clients["a"].attached.unwrap();
    world.send("h", messages::broadcast(&[0], &["a"]));
    for earlier in 0..=6 {
        let cursor = world.session.cursor_after(attached.peer, Some(earlier));
        assert_eq!(owed(&world, attached, cursor).len(), 1, "{earlier}");
    }
}

#[test]
fn a_displaced_transport_is_closed_and_its_end_changes_nothing() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    let older = world.clients["a"].attached.unwrap();
    world.step("a attaches");
    let newer = world.clients["a"].attached.unwrap();
    assert_eq!(older.peer, newer.peer);
    assert_eq!(world.session.closing(older.peer, older.attachment), Some(CloseReason::Displaced));
    assert_eq!(world.session.closing(newer.peer, newer.attachment), None);
    world.session.detach(older.peer, older.attachment, world.now);
    assert_eq!(world.step("60 s pass"), [] as [&str; 0]);
}

#[test]
fn a_place_never_means_the_next_tenant() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    let former = world.clients["a"].attached.unwrap();
    world.step("a leaves");
    world.step("b attaches");
    let next = world.clients["b"].attached.unwrap();
    assert_ne!(former.peer, next.peer);
    assert!(world.session.outbox(former.peer).is_none());
    assert_eq!(world.session.closing(former.peer, former.attachment), Some(CloseReason::Gone));
    world.session.receive(former.peer, &messages::leave(), world.now);
    world.session.leave(former.peer, world.now);
    world.session.detach(former.peer, former.attachment, world.now);
    assert_eq!(world.step("60 s pass"), [] as [&str; 0]);
    assert_eq!(world.session.peer_count(), 2);
}

fn check_claim(change: impl Fn(&mut RoomClaim), expected: Option<Refusal>) {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "b"]);
    let mut claim = world.claim("c");
    change(&mut claim);
    let handshake = Handshake::new("key", None, None);
    assert_eq!(world.session.attach(&claim, PeerId::new("c"), handshake, world.now).err(), expected, "{claim:?}");
}

#[test]
fn a_token_admits_to_its_own_session_only() {
    check_claim(|_| {}, None);
    check_claim(|claim| claim.room = Key::parse("other").unwrap(), Some(Refusal::WrongSession));
    // Another user under the clock of `b`, whom the host let in.
    check_claim(|claim| claim.room_clock = HOST_CLOCK + 2, Some(Refusal::Mismatch));
    // An earlier session under the same key, its guest and its host.
    check_claim(|claim| claim.room_clock = HOST_CLOCK - 1, Some(Refusal::Mismatch));
    check_claim(|claim| claim.room_clock = HOST_CLOCK, Some(Refusal::Mismatch));
    check_claim(|claim| (claim.host, claim.room_clock) = (true, HOST_CLOCK - 1), Some(Refusal::Mismatch));
}

#[test]
fn a_session_that_was_lost_comes_back_with_its_host_and_knows_its_guests_tokens() {
    let before = World::with_peers(SessionLimits::default(), &["h", "a"]);
    let (host, guest) = (before.claim("h"), before.claim("a"));
    let now = before.now;
    let beginning = Beginning::revived(&host, Duration::from_millis(HOST_CLOCK + 500));
    let mut session = Session::new(host.room.clone(), SessionLimits::default(), beginning, &[8; 32], now);
    assert_ne!(session.recovery_id(), before.session.recovery_id());
    let attach = |session: &mut Session, claim: &RoomClaim| {
        session.attach(claim, PeerId::new(&claim.user.id), Handshake::new("key", None, None), now)
    };
    assert_eq!(attach(&mut session, &guest), Err(Refusal::HostAbsent));
    assert!(attach(&mut session, &host).is_ok());
    assert!(attach(&mut session, &guest).is_ok_and(|attached| !attached.returned));
    assert_eq!(session.peer_count(), 2);
}

#[test]
fn joins_after_a_revival_get_clocks_that_were_never_given() {
    let claim = World::new(SessionLimits::default()).claim("h");
    let revived = Beginning::revived(&claim, Duration::from_millis(HOST_CLOCK + 500));
    assert_eq!((revived.host_clock, revived.clock), (HOST_CLOCK, HOST_CLOCK + 500));
    let backwards = Beginning::revived(&claim, Duration::from_millis(1));
    assert_eq!(backwards.clock, HOST_CLOCK);
}

#[test]
fn a_guest_that_was_cut_before_it_heard_of_the_end_returns_to_hear_of_it() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    let attached = world.clients["a"].attached.unwrap();
    world.session.end(EndReason::Closed, world.now);
    world.session.detach(attached.peer, attached.attachment, world.now);
    assert!(!world.session.is_finished());
    world.attach("a", "key");
    let again = world.clients["a"].attached.unwrap();
    assert_eq!(world.session.closing(again.peer, again.attachment), Some(CloseReason::SessionEnded));
    assert_eq!(owed(&world, again, world.clients["a"].cursor).len(), 1);
    // What the closing handshake has proven is acknowledged, and then nothing holds the session.
    world.session.acknowledge(again.peer, u64::MAX);
    assert_eq!(owed(&world, again, 0).len(), 1, "an offset that was never given proves nothing");
    let end = world.session.outbox(again.peer).unwrap().end();
    world.session.acknowledge(again.peer, end);
    world.session.detach(again.peer, again.attachment, world.now);
    world.cut("h");
    assert!(world.session.poll_timeout().is_some(), "the host has not heard of it yet");
    assert_eq!(world.step("30 s pass").last().map(String::as_str), Some("finished"));
}
