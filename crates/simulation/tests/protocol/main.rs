//! The ownership protocol as a small model, checked exhaustively: every order of everything that can happen to one key, in
//! scenes of two and three nodes.
//!
//! The store in it is the real [`ctedge_ownership::StoreModel`], so that what the commands do is checked too. A node is
//! reduced to what the protocol needs, and time to one fact: a node's fence closes (`Lapse`) before its lease can be found
//! silent. Commands are executed at any time or never, and their answers come or do not.
//!
//! The scenes are as large as a test command may take. `CTEDGE_MODEL=3,1,1,1,2,2,0,0,0` checks a scene of one's own: nodes,
//! crashes, freezes, lost answers, handoffs, beats, sessions that end, nodes that leave, keys that nobody came for. Three nodes with two faults take hours and tens of gigabytes.

mod cluster;

use cluster::{Bounds, Broken, Cluster};
use stateright::{Checker, HasDiscoveries, Model, Property};

const ONE_SERVES: &str = "one node serves at a time";
const ONE_ESTATE: &str = "an estate is taken up at most once";
const NOBODY_DELETED: &str = "no key is deleted that somebody serves";
const NOTHING_LOST: &str = "a handoff without a crash loses nothing";

const HANDED: &str = "a session is handed to another node";
const KEPT: &str = "a session that was to be handed to another node is kept";
const TAKEN_OVER: &str = "a session is taken over from the dead";
const CUT_OFF: &str = "a node goes on without the store";
const ENDED: &str = "a session ends, and another begins under its key";
const LEFT: &str = "a session goes on whose owner left";
const FENCED: &str = "a node that was away finds that it lost all";

/// The cluster with its bounds, as the checker wants it.
struct Protocol(Bounds);

impl Model for Protocol {
    type State = Cluster;
    type Action = cluster::Step;

    fn init_states(&self) -> Vec<Cluster> {
        vec![Cluster::new(self.0)]
    }

    fn actions(&self, cluster: &Cluster, steps: &mut Vec<cluster::Step>) {
        cluster.steps(steps);
    }

    fn next_state(&self, cluster: &Cluster, step: cluster::Step) -> Option<Cluster> {
        let mut next = cluster.clone();
        next.take(step);
        (next != *cluster).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(ONE_SERVES, |_, cluster| cluster.serving() <= 1),
            Property::<Self>::always("an epoch has one owner", |_, cluster| cluster.owners_differ_in_epoch()),
            Property::<Self>::always(ONE_ESTATE, |_, cluster| !cluster.adopted_twice),
            Property::<Self>::always("a session that was created is there", |_, cluster| cluster.is_recorded()),
            Property::<Self>::always(NOBODY_DELETED, |_, cluster| !cluster.deleted_under_somebody),
            Property::<Self>::always(NOTHING_LOST, |_, cluster| cluster.keeps_estate()),
            Property::<Self>::sometimes(HANDED, |_, cluster| cluster.serves_estate()),
            Property::<Self>::sometimes(KEPT, |_, cluster| cluster.serves_kept()),
            Property::<Self>::sometimes(TAKEN_OVER, |_, cluster| cluster.serves_after_crash()),
            Property::<Self>::sometimes(CUT_OFF, |_, cluster| cluster.serves_cut_off()),
            Property::<Self>::sometimes(ENDED, |_, cluster| cluster.serves_anew()),
            Property::<Self>::sometimes(LEFT, |_, cluster| cluster.serves_what_was_left()),
            Property::<Self>::sometimes(FENCED, |_, cluster| cluster.was_fenced()),
        ]
    }
}

/// Looks at every state, or at all until there is a discovery `until`.
fn run(bounds: Bounds, until: HasDiscoveries) -> impl Checker<Protocol> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = Protocol(bounds).checker().threads(threads).finish_when(until).spawn_bfs().join();
    println!("{bounds:?}: {} states", checker.unique_state_count());
    checker
}

/// Checks every order of events of a scene, and that what it is about does come about.
fn check(bounds: Bounds, comes_about: &[&'static str]) {
    let checker = run(bounds, HasDiscoveries::All);
    for property in Protocol(bounds).properties() {
        match property.expectation {
            stateright::Expectation::Sometimes if !comes_about.contains(&property.name) => {}
            stateright::Expectation::Sometimes => drop(checker.assert_any_discovery(property.name)),
            _ => checker.assert_no_discovery(property.name),
        }
    }
}

/// Breaks a rule of the protocol, and finds an order of events in which `promise` fails.
fn breaks(broken: Broken, bounds: Bounds, promise: &'static str) {
    let until = HasDiscoveries::AnyOf([promise].into());
    let path = run(Bounds { broken: Some(broken), ..bounds }, until).assert_any_discovery(promise);
    println!("{broken:?}: {} events", path.into_actions().len());
}

const TWO: Bounds = Bounds {
    nodes: 2,
    crashes: 0,
    freezes: 0,
    failures: 0,
    handoffs: 0,
    beats: 0,
    ends: 0,
    leaves: 0,
    reaps: 0,
    broken: None,
};
const THREE: Bounds = Bounds { nodes: 3, ..TWO };

#[test]
fn two_nodes_keep_the_protocol_when_one_crashes_and_an_answer_is_lost() {
    check(Bounds { crashes: 1, failures: 1, handoffs: 1, ..TWO }, &[HANDED, KEPT, TAKEN_OVER]);
}

#[test]
fn two_nodes_keep_the_protocol_when_one_crashes_and_heartbeats_cross() {
    check(Bounds { crashes: 1, beats: 1, ..TWO }, &[TAKEN_OVER]);
}

#[test]
fn two_nodes_keep_the_protocol_when_one_is_away_and_comes_back() {
    check(Bounds { freezes: 1, failures: 1, beats: 1, ..TWO }, &[CUT_OFF, FENCED]);
    check(Bounds { freezes: 1, handoffs: 1, beats: 1, ..TWO }, &[HANDED, FENCED]);
    check(Bounds { crashes: 1, freezes: 1, ..TWO }, &[TAKEN_OVER, FENCED]);
}

#[test]
fn two_nodes_hand_a_session_to_and_fro() {
    check(Bounds { failures: 1, handoffs: 2, ..TWO }, &[HANDED, KEPT]);
    check(Bounds { handoffs: 2, beats: 1, ..TWO }, &[HANDED]);
}

#[test]
fn two_nodes_end_sessions_and_begin_others_under_their_key() {
    check(Bounds { failures: 1, ends: 1, ..TWO }, &[ENDED]);
    check(Bounds { crashes: 1, ends: 1, ..TWO }, &[ENDED, TAKEN_OVER]);
    check(Bounds { freezes: 1, ends: 1, ..TWO }, &[ENDED, FENCED]);
    check(Bounds { handoffs: 1, ends: 1, ..TWO }, &[ENDED, HANDED]);
}

#[test]
fn two_nodes_leave_when_they_have_nothing_and_may_be_given_something_at_that_moment() {
    check(Bounds { failures: 1, handoffs: 1, leaves: 1, ..TWO }, &[HANDED, LEFT]);
    check(Bounds { crashes: 1, leaves: 1, ..TWO }, &[]);
}

#[test]
fn what_nobody_came_for_is_deleted_and_nothing_else() {
    check(Bounds { crashes: 1, reaps: 1, ..TWO }, &[TAKEN_OVER]);
    check(Bounds { freezes: 1, reaps: 1, ..TWO }, &[FENCED]);
    check(Bounds { handoffs: 1, leaves: 1, reaps: 1, ..TWO }, &[HANDED, LEFT]);
}

#[test]
fn two_nodes_keep_the_protocol_when_a_handoff_is_withdrawn() {
    check(Bounds { failures: 2, handoffs: 1, ..TWO }, &[HANDED, KEPT]);
}

#[test]
fn three_nodes_keep_the_protocol() {
    check(Bounds { crashes: 1, ..THREE }, &[TAKEN_OVER]);
    check(Bounds { freezes: 1, ..THREE }, &[FENCED]);
    check(Bounds { failures: 1, handoffs: 1, ..THREE }, &[HANDED]);
    check(Bounds { handoffs: 2, ..THREE }, &[HANDED]);
}

#[test]
fn without_any_of_its_rules_a_promise_fails() {
    let away = Bounds { freezes: 1, failures: 1, beats: 1, ..TWO };
    breaks(Broken::NoFence, away, ONE_SERVES);
    breaks(Broken::NoProbe, away, ONE_SERVES);
    breaks(Broken::LateProof, Bounds { freezes: 1, beats: 2, ..TWO }, ONE_SERVES);
    breaks(Broken::AdoptsUnasked, Bounds { crashes: 1, handoffs: 1, ..TWO }, ONE_ESTATE);
    breaks(Broken::DeletesBlindly, Bounds { failures: 1, ends: 1, ..TWO }, NOBODY_DELETED);
    breaks(Broken::KeepsUnasked, Bounds { failures: 1, handoffs: 1, ..TWO }, ONE_ESTATE);
    breaks(Broken::ForgetsFirst, Bounds { failures: 1, handoffs: 1, ..TWO }, NOTHING_LOST);
}

#[test]
fn a_scene_of_ones_own_keeps_the_protocol() {
    let Ok(scene) = std::env::var("CTEDGE_MODEL") else { return };
    let numbers: Vec<u8> = scene.split(',').map(|number| number.trim().parse().unwrap()).collect();
    let [nodes, crashes, freezes, failures, handoffs, beats, ends, leaves, reaps] = numbers[..] else {
        panic!("nine numbers, not {scene}")
    };
    let nodes = nodes.into();
    let bounds = Bounds { nodes, crashes, freezes, failures, handoffs, beats, ends, leaves, reaps, broken: None };
    check(bounds, &[]);
}
