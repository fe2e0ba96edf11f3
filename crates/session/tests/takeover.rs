//! A session goes on after its owner died, from what was stored.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use ctedge_session::{Action, ResumeError, Session, SessionLimits, StoredPeer};
use support::{HOST_CLOCK, World};

/// What a store would have of the session, from its actions alone.
#[derive(Default)]
struct Journal {
    peers: Vec<StoredPeer>,
    in_flight: Bytes,
}

impl Journal {
    fn write(&mut self, session: &mut Session) {
        while let Some(action) = session.next_action() {
            match action {
                Action::PeerJoined(peer) => match self.peers.iter_mut().find(|known| known.clock == peer.clock) {
                    Some(known) => *known = peer,
                    None => self.peers.push(peer),
                },
                Action::PeerLeft { clock } => self.peers.retain(|peer| peer.clock != clock),
                Action::InFlightChanged => self.in_flight = session.in_flight_bytes(),
                _ => {}
            }
        }
    }
}

/// A world after these steps, and its journal.
fn journaled(names: &[&str], steps: &[(&str, &[&str])]) -> (World, Journal) {
    let (mut world, mut journal) = (World::new(SessionLimits::default()), Journal::default());
    for name in names {
        world.attach(name, "key");
        journal.write(&mut world.session);
    }
    for (name, words) in steps {
        let message = match words {
            ["leave"] => support::messages::leave(),
            words => support::messages::parse(words, &[]),
        };
        world.send(name, message);
        journal.write(&mut world.session);
    }
    (world, journal)
}

/// The session as the next owner has it.
fn resume(world: &mut World, journal: &Journal) {
    let unix_now = Duration::from_millis(HOST_CLOCK + 60_000);
    let key = world.session.key().clone();
    let limits = SessionLimits::default();
    let resumed =
        Session::resumed(key, limits, &journal.peers, Some(&journal.in_flight), unix_now, &[9; 32], world.now);
    world.session = resumed.unwrap();
    for client in world.clients.values_mut() {
        (client.attached, client.cursor) = (None, 0);
    }
    while world.session.next_action().is_some() {}
}

#[test]
fn the_same_peers_come_back_and_nobody_hears_of_it() {
    let (mut world, journal) =
        journaled(&["h", "a", "b"], &[("h", &["broadcast", "x"]), ("a", &["broadcast", "y"]), ("b", &["leave"])]);
    let former = world.session.recovery_id().to_owned();
    let host = world.session.host().unwrap();
    resume(&mut world, &journal);
    assert!(world.session.is_live());
    assert_eq!(world.session.peer_count(), 2);
    assert_eq!(world.session.host().unwrap(), host);
    assert_ne!(world.session.recovery_id(), former, "offsets of the lost life mean nothing");
    assert_eq!(world.step("h attaches"), ["h is back"]);
    assert_eq!(world.step("a attaches"), ["a is back"]);
    let heard = world.step("h says broadcast on");
    assert_eq!(heard, ["a gets broadcast on from h with the key of a"]);
}

#[test]
fn a_peer_that_had_not_said_anything_is_announced_once_more() {
    let (mut world, journal) = journaled(&["h", "a"], &[("h", &["broadcast", "x"])]);
    resume(&mut world, &journal);
    assert_eq!(world.step("h attaches"), ["h is back", "h gets broadcast room/joined a"]);
    assert_eq!(world.step("a attaches"), ["a is back", "a gets notification peer/info a"]);
    // What the host answers to that comes to it, and it is as if nothing had been.
    world.step("a says broadcast y");
    let mut journal = Journal { in_flight: Bytes::new(), peers: world.session.stored_peers() };
    journal.write(&mut world.session);
    resume(&mut world, &journal);
    assert_eq!(world.step("h attaches"), ["h is back"]);
    assert_eq!(world.step("a attaches"), ["a is back"]);
}

#[test]
fn peers_that_do_not_come_back_in_time_are_given_up() {
    let (mut world, journal) = journaled(&["h", "a"], &[]);
    resume(&mut world, &journal);
    world.step("h attaches");
    let heard = world.step("31 s pass");
    assert_eq!(heard, ["h gets broadcast room/left a", "audit: left: a"]);
}

#[test]
fn a_session_to_which_nobody_comes_back_ends() {
    let (mut world, journal) = journaled(&["h", "a"], &[]);
    resume(&mut world, &journal);
    assert_eq!(world.step("29 s pass"), Vec::<String>::new());
    assert_eq!(
        world.step("1 s pass"),
        ["audit: left: a", "audit: ended (host-lost): h", "ended (host-lost)", "finished"]
    );
}

#[test]
fn requests_that_were_in_flight_fail_at_once() {
    let (mut world, journal) = journaled(
        &["h", "a", "b"],
        &[
            ("h", &["request", "4", "to", "a"]),
            ("a", &["request", "5", "to", "b"]),
            ("h", &["request", "6", "to", "b"]),
            ("b", &["response", "#2"]),
        ],
    );
    resume(&mut world, &journal);
    let lost = "the server of the session was lost and another one has taken over.";
    assert_eq!(
        world.step("h attaches"),
        [
            "h is back".to_owned(),
            format!("h gets response-error 4 {lost:?}"),
            format!("h gets response-error 6 {lost:?}")
        ]
    );
    assert_eq!(world.step("a attaches"), ["a is back"]);
    assert_eq!(world.session.take_counters().requests_failed, 2);
}

#[test]
fn requests_that_were_only_noted_fail_once_as_well() {
    let steps: [(&str, &[&str]); 2] = [("a", &["broadcast", "x"]), ("h", &["request", "4", "to", "a"])];
    let (mut world, mut journal) = journaled(&["h", "a"], &steps);
    let mut noted = Vec::new();
    for number in ["5", "6"] {
        world.send("h", support::messages::parse(&["request", number, "to", "a"], &[]));
        noted.extend(std::iter::from_fn(|| world.session.next_action()).filter_map(|action| match action {
            Action::Requested(request) => Some(request),
            _ => None,
        }));
    }
    assert_eq!(noted.len(), 2);
    // The first was written since, and is noted still.
    let lists = [&journal.in_flight, &noted[0], &noted[0], &noted[1]];
    journal.in_flight = lists.into_iter().flat_map(|list| list.iter().copied()).chain(*b"\xc1torn").collect();
    resume(&mut world, &journal);
    let lost = "the server of the session was lost and another one has taken over.";
    let failed = ["4", "5", "6"].map(|id| format!("h gets response-error {id} {lost:?}"));
    assert_eq!(world.step("h attaches")[1..], failed);
}

#[test]
fn a_request_is_to_be_noted_before_the_peer_that_is_asked_hears_of_it() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    world.step("h says broadcast x");
    let mut said = |words: &[&str]| {
        world.send("h", support::messages::parse(words, &[]));
        std::iter::from_fn(|| world.session.next_action()).collect::<Vec<_>>()
    };
    let actions = said(&["request", "1", "to", "a"]);
    assert!(matches!(actions[..], [Action::InFlightChanged, Action::Requested(_), Action::Wake(_)]), "{actions:?}");
    let actions = said(&["request", "2", "to", "a"]);
    assert!(matches!(actions[..], [Action::Requested(_), Action::Wake(_)]), "{actions:?}");
}

#[test]
fn a_late_response_to_a_lost_request_is_not_taken_for_another() {
    let (mut world, journal) = journaled(&["h", "a"], &[("h", &["request", "4", "to", "a"])]);
    resume(&mut world, &journal);
    world.step("h attaches");
    world.step("a attaches");
    let asked = world.step("h says request 7 to a");
    assert_eq!(asked, [format!("a gets request #{} question from h with the key of a", 61_000_001)]);
    assert_eq!(world.step("a says response #1"), Vec::<String>::new());
    assert_eq!(world.session.take_counters().stray_responses, 1);
    assert_eq!(world.session.requests_in_flight(), 1);
}

#[test]
fn a_change_in_flight_is_said_once_until_it_is_written_down() {
    let mut world = World::with_peers(SessionLimits::default(), &["h", "a"]);
    let said = |world: &mut World| {
        std::iter::from_fn(|| world.session.next_action()).filter(|action| *action == Action::InFlightChanged).count()
    };
    for number in ["1", "2", "3"] {
        world.send("h", support::messages::parse(&["request", number, "to", "a"], &[]));
    }
    assert_eq!(said(&mut world), 1);
    world.send("h", support::messages::parse(&["request", "4", "to", "a"], &[]));
    assert_eq!(said(&mut world), 0);
    assert!(!world.session.in_flight_bytes().is_empty());
    for id in ["#1", "#2", "#3", "#4"] {
        world.send("a", support::messages::parse(&["response", id], &[]));
    }
    assert_eq!(said(&mut world), 1);
    assert!(world.session.in_flight_bytes().is_empty());
}

#[test]
fn of_a_session_that_has_ended_nobody_is_stored() {
    let (world, journal) = journaled(&["h", "a", "b"], &[("h", &["leave"])]);
    assert!(!world.session.is_live());
    assert_eq!(journal.peers, []);
}

#[test]
fn a_session_without_its_host_is_not_resumed() {
    let (mut world, mut journal) = journaled(&["h", "a"], &[]);
    journal.peers.retain(|peer| !peer.host);
    let resumed = Session::resumed(
        world.session.key().clone(),
        SessionLimits::default(),
        &journal.peers,
        None,
        Duration::from_secs(100),
        &[9; 32],
        world.now,
    );
    assert_eq!(resumed.err(), Some(ResumeError::HostMissing));
    world.step("a is cut");
}

#[test]
fn who_cannot_be_brought_back_is_not_stored_any_more() {
    let (world, mut journal) = journaled(&["h", "a", "b"], &[]);
    journal.peers[1].user = "{".to_owned();
    let (key, now) = (world.session.key().clone(), Duration::from_millis(HOST_CLOCK + 60_000));
    let resumed = Session::resumed(key, SessionLimits::default(), &journal.peers, None, now, &[9; 32], world.now);
    journal.write(&mut resumed.unwrap());
    assert_eq!(journal.peers.iter().map(|peer| peer.clock - HOST_CLOCK).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn what_cannot_be_read_of_a_peer_costs_that_peer_alone() {
    let (mut world, mut journal) = journaled(&["h", "a", "b"], &[("h", &["request", "4", "to", "a"])]);
    journal.peers[1].handshake = Bytes::from_static(b"\xc1");
    journal.peers[2].user = "{".to_owned();
    journal.in_flight = Bytes::from_static(b"\x92\x01");
    resume(&mut world, &journal);
    assert_eq!(world.session.peer_count(), 1);
    assert_eq!(world.step("h attaches"), ["h is back"]);
}
