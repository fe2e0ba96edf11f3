//! A session that is written down and read back goes on as if nothing had happened.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_session::{EstateError, Session, SessionLimits};
use proptest::prelude::*;
use support::World;

const NAMES: [&str; 4] = ["h", "a", "b", "c"];

/// What may happen next, from two numbers.
fn step(kind: u8, more: u8) -> String {
    let name = NAMES[usize::from(more) % NAMES.len()];
    let other = NAMES[usize::from(more / 4) % NAMES.len()];
    match kind % 12 {
        0..3 => format!("{name} attaches"),
        3 => format!("{name} is cut"),
        4 => format!("{name} says broadcast text"),
        5 => format!("{name} says notification text to {other}"),
        6 => format!("{name} says request {} to {other}", more % 10),
        7 => format!("{name} says response #{}", more % 16 + 1),
        8 => format!("{} asks to join", ["x", "y"][usize::from(more) % 2]),
        9 => format!("h says {} #{}", ["agree", "refuse"][usize::from(more) % 2], more % 16 + 1),
        10 => format!("{} s pass", more % 40),
        _ => [format!("{name} leaves"), format!("{name} attaches anew")][usize::from(more / 128)].clone(),
    }
}

/// Only who is there can send.
fn is_possible(world: &World, step: &str) -> bool {
    let name = step.split(' ').next().unwrap();
    !(step.contains(" says ") || step.contains(" leaves"))
        || world.clients.get(name).is_some_and(|client| client.attached.is_some())
}

/// What comes of a step. Sorted: peers to whom something happens at the same moment have no order among them. That each
/// of them gets its messages in order is for the random interleavings to see.
fn play(world: &mut World, step: &str) -> Vec<String> {
    let mut outcome = if is_possible(world, step) { world.step(step) } else { Vec::new() };
    outcome.sort();
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_session_goes_on_elsewhere_as_it_would_have_here(
        before in prop::collection::vec(any::<(u8, u8)>(), 0..60),
        after in prop::collection::vec(any::<(u8, u8)>(), 1..60),
    ) {
        let mut here = World::new(SessionLimits::default());
        here.step("h attaches");
        for (kind, more) in before {
            let step = step(kind, more);
            play(&mut here, &step);
        }
        let mut elsewhere = here.handed_over(Duration::from_secs(77));
        here.cut_all();
        for (kind, more) in after {
            let step = step(kind, more);
            prop_assert_eq!(play(&mut here, &step), play(&mut elsewhere, &step), "{}", step);
        }
    }
}

/// A session with something of everything.
fn estate() -> Bytes {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a", "b"]);
    for step in ["h says request 1 to a", "x asks to join", "b is cut", "h says broadcast owed", "a says nonsense"] {
        world.step(step);
    }
    for name in ["h", "a"] {
        world.step(&format!("{name} is cut"));
    }
    world.session.export(Bytes::from_static(b"luggage"), world.now)
}

#[test]
fn a_session_of_another_form_is_refused_by_its_number() {
    let bytes = estate();
    let mut value = rmpv::decode::read_value(&mut &*bytes).unwrap();
    let rmpv::Value::Map(fields) = &mut value else { panic!("no map") };
    fields.iter_mut().find(|(name, _)| name.as_str() == Some("format")).unwrap().1 = 2.into();
    let mut other = Vec::new();
    rmpv::encode::write_value(&mut other, &value).unwrap();
    let refused = Session::from_estate(&other, SessionLimits::default(), Instant::now());
    assert_eq!(refused.err(), Some(EstateError::Format(2)));
}

#[test]
fn fields_of_a_later_version_are_skipped_and_optional_ones_may_be_missing() {
    let bytes = estate();
    let mut value = rmpv::decode::read_value(&mut &*bytes).unwrap();
    let rmpv::Value::Map(fields) = &mut value else { panic!("no map") };
    fields.retain(|(name, _)| name.as_str() != Some("luggage"));
    fields.push(("invented_later".into(), rmpv::Value::Array(vec![1.into()])));
    let peers = fields.iter_mut().find(|(name, _)| name.as_str() == Some("peers")).unwrap();
    let rmpv::Value::Array(peers) = &mut peers.1 else { panic!("no array") };
    for peer in peers {
        let rmpv::Value::Map(peer) = peer else { panic!("no map") };
        peer.retain(|(name, _)| name.as_str() != Some("warned"));
        peer.push(("mood".into(), "curious".into()));
    }
    let mut other = Vec::new();
    rmpv::encode::write_value(&mut other, &value).unwrap();
    let (session, luggage) = Session::from_estate(&other, SessionLimits::default(), Instant::now()).unwrap();
    assert_eq!((session.peer_count(), session.requests_in_flight(), session.joins_waiting()), (3, 1, 1));
    assert!(luggage.is_empty());
}

#[test]
fn a_peer_that_was_attached_is_within_its_grace_at_the_next_owner() {
    let world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    let bytes = world.session.export(Bytes::new(), world.now);
    let later = world.now + Duration::from_secs(500);
    let (session, _) = Session::from_estate(&bytes, SessionLimits::default(), later).unwrap();
    assert_eq!(session.poll_timeout(), Some(later + SessionLimits::default().grace));
}
