//! What a node finds out about a creation of which it got no answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_ownership::{
    Action, Ask, Command, Estate, HandoffReason, Lease, LeaseId, NodeId, Origin, Outcome, Ownership, OwnershipSettings,
    Ranking, StoreFailure, StoreModel, Ticket, Unavailable, Verdict, Wants,
};
use ctedge_wire::Key;

const STEP: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct FirstOne;

impl Ranking for FirstOne {
    fn best(&mut self, _: &Key, _: &[&Lease]) -> usize {
        0
    }
}

/// A node, and the store that it may be cut off from.
struct Bench {
    node: Ownership,
    store: StoreModel,
    is_cut_off: bool,
    now: Instant,
    begun: Vec<Origin>,
    verdicts: Vec<Verdict>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let node = Ownership::new(OwnershipSettings::default(), lease(1), address(1), 1, Box::new(FirstOne), now);
        let (store, begun, verdicts) = (StoreModel::default(), Vec::new(), Vec::new());
        let mut bench = Self { node, store, is_cut_off: false, now, begun, verdicts };
        bench.pass(1);
        bench
    }

    /// Lets seconds pass, in which commands are executed at once, or not at all.
    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds * 10 {
            self.now += STEP;
            self.node.timeout(self.now);
            while let Some(action) = self.node.next_action() {
                match action {
                    Action::Store(id, command) => {
                        let reached = (!self.is_cut_off).then(|| self.store.execute(&command));
                        self.node.store_answered(id, reached.ok_or(StoreFailure::Unreachable), self.now);
                    }
                    Action::Begin { origin, .. } => self.begun.push(origin),
                    Action::Answer(_, verdict) => self.verdicts.push(verdict),
                    _ => {}
                }
            }
        }
    }

    fn asks_to_create(&mut self) {
        let ask = Ask { ticket: Ticket(1), key: key(), wants: Wants::New, unreachable: Vec::new() };
        self.node.asked(ask, self.now);
        self.pass(1);
    }

    /// Another node creates the session and hands it to this one.
    fn another_creates_and_hands_it_over(&mut self) -> Bytes {
        let by = lease(2);
        self.store.execute(&Command::Register { lease: by.clone(), address: address(2), pid: 2 });
        let Outcome::Owned { epoch, .. } = self.store.execute(&Command::Create { key: key(), by: by.clone() }) else {
            panic!("the key is free");
        };
        let bytes = Bytes::from_static(b"what is under way");
        let estate = Estate { bytes: bytes.clone(), peers: Vec::new(), in_flight: None };
        let (to, reason) = (Some(lease(1)), HandoffReason::DrainNow);
        let handed = self.store.execute(&Command::HandOff { key: key(), epoch, by, to, estate, reason });
        assert!(matches!(handed, Outcome::HandedOff { .. }), "{handed:?}");
        bytes
    }
}

fn lease(number: u16) -> LeaseId {
    LeaseId::new(NodeId::new(&format!("node-{number}")), u64::from(number))
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

fn key() -> Key {
    Key::parse("room").expect("a sound key")
}

#[test]
fn a_creation_that_nobody_waits_for_any_more_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.is_cut_off = true;
    bench.asks_to_create();
    assert!(matches!(bench.verdicts[..], [Verdict::Unavailable { why: Unavailable::Store, .. }]));
    bench.is_cut_off = false;
    bench.pass(5);
    assert!(bench.begun.is_empty() && bench.store.record(&key()).is_none());
}

#[test]
fn a_session_that_was_created_elsewhere_and_handed_here_is_not_taken_for_a_creation_in_doubt() {
    let mut bench = Bench::new();
    bench.is_cut_off = true;
    bench.asks_to_create();
    // The balancer has asked another node instead.
    let handed = bench.another_creates_and_hands_it_over();
    bench.is_cut_off = false;
    bench.pass(5);
    assert!(matches!(&bench.begun[..], [Origin::Estate(estate)] if estate.bytes == handed), "{:?}", bench.begun);
    assert!(bench.store.record(&key()).is_some());
}
