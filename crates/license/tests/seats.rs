//! Seats over several nodes, simulated: peers join and leave, sessions are handed over, nodes die and are taken over from in any
//! order, and questions get lost or come late. However it comes, no more peers sit than are licensed, and a seat that
//! somebody left is found again. The store is the model that the real ones are held against.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_license::seats::{SeatHolder, Share, Wish};
use ctedge_ownership::{
    Command, Epoch, Estate, HandoffReason, LeaseEnd, LeaseId, NodeId, Outcome, SeatShare, SeatWish, StoreModel,
    StoredPeer,
};
use ctedge_wire::Key;
use proptest::prelude::*;

const NODES: usize = 3;

struct World {
    store: StoreModel,
    holders: Vec<SeatHolder>,
    /// The lease that each node has; a node that died comes back with another.
    leases: Vec<LeaseId>,
    leases_begun: u64,
    /// Those who left each node, while the store does not know.
    leaving: [u32; NODES],
    sessions: Vec<Session>,
    peers_begun: u64,
    /// Questions that the store has not heard yet, and whose answers nobody waits for any more.
    late: Vec<(LeaseId, Wish)>,
    licensed: u32,
    now: Instant,
}

/// A session, and who has a seat in it.
#[derive(Clone)]
struct Session {
    key: Key,
    epoch: Epoch,
    owner: LeaseId,
    peers: Vec<u64>,
    /// Who left, and is there again: its node died before it had written so. It holds its seat until its grace is over.
    ghosts: Vec<u64>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In its owner's memory.
    Here,
    /// Exported, and the store has not heard of it.
    Leaving,
    /// The store's, until its owner takes it up.
    Coming,
    /// Ended, and the store has not heard of it.
    Ended,
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    /// A session of the node ends,
    End {
        node: usize,
        pick: usize,
    },
    /// and its record is deleted.
    Delete(usize),
    /// The store hears who has joined and left.
    Write(usize),
    /// The node asks while somebody waits, or does not.
    Ask {
        node: usize,
        waiting: bool,
        loss: Loss,
    },
    /// The store hears a late question.
    Hear,
    Wait(u64),
    Die(usize),
    /// The node takes over a session of one that died.
    TakeOver(usize),
    /// A session of the node is exported.
    Export {
        node: usize,
        pick: usize,
    },
    /// What is exported is taken back, because no node can get it.
    TakeBack(usize),
    /// What is exported is handed to another node,
    HandOff {
        from: usize,
        to: usize,
    },
    /// which takes up what was handed to it.
    Adopt(usize),
    /// Those of dead nodes whom nobody has taken over are given up.
    GiveUp,
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    None,
    Question,
    Answer,
    Late,
}

fn stored(clock: u64) -> StoredPeer {
    StoredPeer { clock, host: false, user: String::new(), handshake: Bytes::new() }
}

impl Session {
    /// All that the node knows of.
    fn known(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        let known: Vec<u64> = self.peers.iter().chain(&self.ghosts).copied().collect();
        known.into_iter()
    }
}

impl World {
    fn new(licensed: u32) -> Self {
        let mut world = Self {
            store: StoreModel::default(),
            holders: Vec::new(),
            leases: Vec::new(),
            leases_begun: 0,
            leaving: [0; NODES],
            sessions: Vec::new(),
            peers_begun: 0,
            late: Vec::new(),
            licensed,
            now: Instant::now(),
        };
        for node in 0..NODES {
            world.holders.push(SeatHolder::new(licensed));
            let lease = world.register(node);
            world.leases.push(lease);
        }
        world
    }

    fn register(&mut self, node: usize) -> LeaseId {
        self.leases_begun += 1;
        let lease = LeaseId::new(NodeId::new(&format!("node-{node}")), self.leases_begun);
        let address = SocketAddr::from(([127, 0, 0, 1], node as u16));
        self.store.execute(&Command::Register { lease: lease.clone(), address, pid: 0 });
        lease
    }

    /// All who have a seat, or have only to come for it: a ghost is somebody too.
    fn sitting(&self) -> usize {
        self.sessions.iter().map(|session| session.known().len()).sum()
    }

    /// The sessions that the node has in memory.
    fn here(&mut self, node: usize) -> impl Iterator<Item = &mut Session> {
        let lease = &self.leases[node];
        self.sessions.iter_mut().filter(move |session| session.owner == *lease && session.place == Place::Here)
    }

    fn pick(&mut self, node: usize, pick: usize) -> Option<&mut Session> {
        let count = self.here(node).count();
        self.here(node).nth(pick % count.max(1))
    }

    fn join(&mut self, node: usize) -> bool {
        if !self.holders[node].take() {
            return false;
        }
        self.peers_begun += 1;
        let (peer, key) = (self.peers_begun, Key::parse(&format!("s-{}", self.peers_begun)).expect("a key"));
        // Two of three join a session that is there.
        if let Some(session) = self.here(node).last().filter(|_| peer % 3 > 0) {
            session.peers.push(peer);
            return true;
        }
        let owner = self.leases[node].clone();
        let created = self.store.execute(&Command::Create { key: key.clone(), by: owner.clone() });
        let Outcome::Owned { epoch, .. } = created else { panic!("{created:?}") };
        self.sessions.push(Session { key, epoch, owner, peers: vec![peer], ghosts: Vec::new(), place: Place::Here });
        true
    }

    /// Who has left is not written down any more: their seats are free.
    fn write(&mut self, node: usize) {
        self.holders[node].leave(std::mem::take(&mut self.leaving[node]));
        let lease = &self.leases[node];
        for session in self.sessions.iter().filter(|session| session.owner == *lease && session.place != Place::Coming)
        {
            let peers = session.known().map(stored).collect();
            self.store.journal(&session.key, session.epoch, lease, |legacy| legacy.peers = peers);
        }
    }

    fn hold(&mut self, lease: &LeaseId, wish: Wish) -> Option<Share> {
        let Wish { want, sat, exported, number } = wish;
        let wish = SeatWish { want: want.into(), sat, exported, number };
        let SeatShare { held, others, wanted_elsewhere } = self.store.hold_seats(lease, wish, self.licensed.into())?;
        let number = |number: u64| u32::try_from(number).expect("few seats");
        Some(Share { held: number(held), others: number(others), wanted_elsewhere: number(wanted_elsewhere) })
    }

    fn ask(&mut self, node: usize, waiting: u32, loss: Loss) {
        let Some(wish) = self.holders[node].ask(waiting, self.now) else { return };
        let lease = self.leases[node].clone();
        let share = match loss {
            Loss::Question => None,
            Loss::Late => {
                self.late.push((lease, wish));
                None
            }
            Loss::None | Loss::Answer => self.hold(&lease, wish),
        };
        match (share, loss) {
            (Some(share), Loss::None) => self.holders[node].answered(share, self.now),
            _ => self.holders[node].unanswered(),
        }
    }

    fn die(&mut self, node: usize) {
        let dead = self.leases[node].clone();
        self.store.execute(&Command::EndLease { lease: dead.clone(), beat: None, why: LeaseEnd::Exited });
        for session in self.sessions.iter_mut().filter(|session| session.owner == dead) {
            let legacy = self.store.legacy(&session.key).expect("its record");
            let written: Vec<u64> = legacy.peers.iter().map(|peer| peer.clock).collect();
            session.peers.retain(|peer| written.contains(peer));
            session.ghosts = written.into_iter().filter(|peer| !session.peers.contains(peer)).collect();
        }
        self.leases[node] = self.register(node);
        self.holders[node] = SeatHolder::new(self.licensed);
        self.leaving[node] = 0;
    }

    fn take_over(&mut self, node: usize) {
        let by = self.leases[node].clone();
        let is_orphan = |session: &&mut Session| !self.store.lives(&session.owner);
        let Some(session) = self.sessions.iter_mut().find(is_orphan) else { return };
        let (key, from) = (session.key.clone(), session.epoch);
        let outcome = self.store.execute(&Command::TakeOver { key, from, by: by.clone() });
        let Outcome::Owned { epoch, .. } = outcome else { panic!("{outcome:?}") };
        (session.owner, session.epoch, session.place) = (by, epoch, Place::Coming);
    }

    fn end(&mut self, node: usize, pick: usize) {
        if let Some(session) = self.pick(node, pick) {
            let known = session.known().len();
            *session = Session { place: Place::Ended, peers: Vec::new(), ghosts: Vec::new(), ..session.clone() };
            self.leaving[node] += known as u32;
        }
    }

    fn delete(&mut self, node: usize) {
        let by = self.leases[node].clone();
        for ended in self.sessions.extract_if(.., |session| session.owner == by && session.place == Place::Ended) {
            let outcome = self.store.execute(&Command::Delete { key: ended.key, epoch: ended.epoch, by: by.clone() });
            assert_eq!(outcome, Outcome::Deleted);
        }
    }

    fn export(&mut self, node: usize, pick: usize) {
        if let Some(session) = self.pick(node, pick) {
            session.place = Place::Leaving;
            let known = session.known().len();
            self.holders[node].hand_over(known as u32);
        }
    }

    fn take_back(&mut self, node: usize) {
        let by = &self.leases[node];
        let is_leaving = |session: &&mut Session| session.owner == *by && session.place == Place::Leaving;
        if let Some(session) = self.sessions.iter_mut().find(is_leaving) {
            session.place = Place::Here;
            self.holders[node].sit(session.known().len() as u32);
        }
    }

    fn hand_off(&mut self, from: usize, to: usize) {
        let (by, to) = (self.leases[from].clone(), self.leases[to].clone());
        let is_leaving = |session: &&mut Session| session.owner == by && session.place == Place::Leaving;
        let Some(session) = self.sessions.iter_mut().find(is_leaving) else { return };
        let peers = session.known().map(stored).collect();
        let (key, estate) = (session.key.clone(), Estate { peers, ..Estate::default() });
        let handed = Command::HandOff {
            key,
            epoch: session.epoch,
            by,
            to: Some(to.clone()),
            estate,
            reason: HandoffReason::DrainNow,
        };
        let outcome = self.store.execute(&handed);
        let Outcome::HandedOff { epoch } = outcome else { panic!("{outcome:?}") };
        (session.owner, session.epoch, session.place) = (to, epoch, Place::Coming);
    }

    fn adopt(&mut self, node: usize) {
        let lease = &self.leases[node];
        for session in &mut self.sessions {
            if session.owner != *lease || session.place != Place::Coming {
                continue;
            }
            session.place = Place::Here;
            self.holders[node].sit(session.known().len() as u32);
        }
    }

    fn give_up(&mut self) {
        self.sessions.retain(|session| self.store.lives(&session.owner));
        let ended: Vec<LeaseId> =
            self.store.leases().filter(|lease| lease.ended.is_some()).map(|lease| lease.id.clone()).collect();
        for lease in ended {
            self.store.execute(&Command::Reap { lease });
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(node) => drop(self.join(node)),
            Step::Leave(node) => {
                let left = self.here(node).find_map(|session| session.ghosts.pop().or_else(|| session.peers.pop()));
                self.leaving[node] += u32::from(left.is_some());
            }
            Step::End { node, pick } => self.end(node, pick),
            Step::Delete(node) => self.delete(node),
            Step::Write(node) => self.write(node),
            Step::Ask { node, waiting, loss } => self.ask(node, u32::from(waiting), loss),
            Step::Hear => {
                if let Some((lease, wish)) = self.late.pop() {
                    self.hold(&lease, wish);
                }
            }
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Die(node) => self.die(node),
            Step::TakeOver(node) => self.take_over(node),
            Step::Export { node, pick } => self.export(node, pick),
            Step::TakeBack(node) => self.take_back(node),
            Step::HandOff { from, to } => self.hand_off(from, to),
            Step::Adopt(node) => self.adopt(node),
            Step::GiveUp => self.give_up(),
        }
    }

    /// Everybody is gone, and time passes.
    fn come_to_rest(&mut self) {
        self.give_up();
        for node in 0..NODES {
            (0..self.sessions.len()).for_each(|_| self.hand_off(node, node));
            self.adopt(node);
            let known: usize = self.here(node).map(|session| session.known().len()).sum();
            self.here(node).for_each(|session| (session.peers, session.ghosts) = Default::default());
            self.leaving[node] += known as u32;
            self.write(node);
            self.delete(node);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    let loss = prop_oneof![
        4 => Just(Loss::None), 1 => Just(Loss::Question), 1 => Just(Loss::Answer), 1 => Just(Loss::Late)
    ];
    prop_oneof![
        8 => node().prop_map(Step::Join),
        4 => node().prop_map(Step::Leave),
        1 => (node(), 0..8usize).prop_map(|(node, pick)| Step::End { node, pick }),
        1 => node().prop_map(Step::Delete),
        4 => node().prop_map(Step::Write),
        8 => (node(), any::<bool>(), loss).prop_map(|(node, waiting, loss)| Step::Ask { node, waiting, loss }),
        1 => Just(Step::Hear),
        6 => (1..3_000u64).prop_map(Step::Wait),
        1 => node().prop_map(Step::Die),
        2 => node().prop_map(Step::TakeOver),
        2 => (node(), 0..8usize).prop_map(|(node, pick)| Step::Export { node, pick }),
        1 => node().prop_map(Step::TakeBack),
        3 => (node(), node()).prop_map(|(from, to)| Step::HandOff { from, to }),
        3 => node().prop_map(Step::Adopt),
        1 => Just(Step::GiveUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_seat_is_ever_sold_twice(licensed in 1..40u32, steps in prop::collection::vec(step(), 0..150)) {
        let mut world = World::new(licensed);
        for (at, step) in steps.iter().enumerate() {
            world.step(step);
            let sitting = world.sitting();
            prop_assert!(sitting <= licensed as usize, "{sitting} sit after step {at}: {step:?}");
        }
    }

    #[test]
    fn every_seat_is_found_again_on_any_node(licensed in 1..40u32, node in 0..NODES, steps in prop::collection::vec(step(), 0..100)) {
        let mut world = World::new(licensed);
        steps.iter().for_each(|step| world.step(step));
        world.come_to_rest();
        // Ten minutes in which everybody wants to join at one node.
        for _ in 0..600 {
            world.now += Duration::from_secs(1);
            (0..NODES).for_each(|other| world.ask(other, u32::from(other == node), Loss::None));
            while world.join(node) {}
        }
        prop_assert_eq!(world.sitting(), licensed as usize);
    }
}

/// Three seats, and the store knows who has them: two people of one session and one of another.
fn full() -> World {
    let mut world = World::new(3);
    world.ask(0, 2, Loss::None);
    [Step::Join(0), Step::Join(0), Step::Join(0), Step::Write(0)].iter().for_each(|step| world.step(step));
    world
}

#[test]
fn a_seat_that_somebody_left_is_not_taken_while_the_store_may_bring_them_back() {
    let leave_and_move =
        [Step::Leave(0), Step::Join(0), Step::Export { node: 0, pick: 1 }, Step::HandOff { from: 0, to: 1 }];
    let end = [Step::End { node: 0, pick: 0 }, Step::Join(0), Step::Join(0), Step::Write(1)];
    for steps in [leave_and_move, end] {
        let mut world = full();
        steps.iter().for_each(|step| world.step(step));
        world.step(&Step::Die(0));
        assert_eq!(world.sitting(), 3, "after {steps:?}");
    }
}

#[test]
fn a_seat_that_somebody_left_is_free_when_the_store_knows() {
    let mut world = full();
    world.step(&Step::Leave(0));
    assert!(!world.join(0));
    world.step(&Step::Write(0));
    assert!(world.join(0) && !world.join(0));
}

#[test]
fn the_last_seat_is_found_within_two_seconds_while_others_hold_a_reserve() {
    let mut world = World::new(NODES as u32);
    for node in 0..NODES {
        world.ask(node, 0, Loss::None);
        assert_eq!(world.holders[node].held(), 1, "one in reserve each");
    }
    let begun = world.now;
    let mut joined = 0;
    while joined < NODES {
        world.now += Duration::from_millis(50);
        (0..NODES).for_each(|other| world.ask(other, u32::from(other == 0), Loss::None));
        joined += usize::from(world.join(0));
        assert!(world.now - begun < Duration::from_secs(2 * NODES as u64), "{joined} joined");
    }
}
