//! Seats over several nodes, simulated: nodes join, leave, hand over, die and are taken over from in any order, and answers
//! get lost. However it comes, no more peers sit than are licensed, and a seat that somebody left is found again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctedge_license::seats::{SeatHolder, Share};
use proptest::prelude::*;

const NODES: usize = 3;

/// The store, as `ctedge-store` counts.
#[derive(Default)]
struct Store {
    held: BTreeMap<usize, (u32, u32)>,
    /// Peers of sessions by the process that owns them.
    peers: BTreeMap<usize, u32>,
    ended: Vec<usize>,
}

impl Store {
    fn peers(&self, process: usize) -> u32 {
        self.peers.get(&process).copied().unwrap_or(0)
    }

    fn hold(&mut self, process: usize, want: u32, licensed: u32) -> Share {
        let others: u32 = self
            .held
            .keys()
            .chain(self.peers.keys())
            .copied()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .filter(|other| *other != process)
            .map(|other| match self.ended.contains(&other) {
                true => self.peers(other),
                false => self.held.get(&other).map_or(0, |(held, _)| *held).max(self.peers(other)),
            })
            .sum();
        let own = self.held.get(&process).map_or(0, |(held, _)| *held);
        let held = if want <= own { want } else { own.max(want.min(licensed.saturating_sub(others))) };
        self.held.insert(process, (held, want));
        let waiting = |(other, (held, want)): (&usize, &(u32, u32))| {
            if *other == process || self.ended.contains(other) { 0 } else { want.saturating_sub(*held) }
        };
        Share { held, others, wanted_elsewhere: self.held.iter().map(waiting).sum() }
    }
}

struct World {
    store: Store,
    holders: Vec<SeatHolder>,
    /// The process that each node is; a node that died comes back as another.
    processes: Vec<usize>,
    processes_begun: usize,
    licensed: u32,
    now: Instant,
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    /// The node asks while somebody waits, or does not; the answer may get lost before or after the store has acted.
    Ask {
        node: usize,
        waiting: bool,
        loss: Loss,
    },
    Wait(u64),
    Die(usize),
    /// The node takes over everything of those that died.
    TakeOver(usize),
    /// So many peers move with their session.
    HandOver {
        from: usize,
        to: usize,
        peers: u32,
    },
    /// Those of dead nodes whom nobody has taken over are given up.
    GiveUp,
}

#[derive(Debug, Clone, Copy)]
enum Loss {
    None,
    Question,
    Answer,
}

impl World {
    fn new(licensed: u32) -> Self {
        let holders = (0..NODES).map(|_| SeatHolder::new(licensed)).collect();
        let processes = (0..NODES).collect();
        Self { store: Store::default(), holders, processes, processes_begun: NODES, licensed, now: Instant::now() }
    }

    fn sitting(&self) -> u32 {
        self.store.peers.values().sum()
    }

    fn join(&mut self, node: usize) -> bool {
        let is_seated = self.holders[node].take();
        if is_seated {
            *self.store.peers.entry(self.processes[node]).or_default() += 1;
        }
        is_seated
    }

    fn ask(&mut self, node: usize, waiting: u32, loss: Loss) {
        let Some(want) = self.holders[node].ask(waiting, self.now) else { return };
        let share = match loss {
            Loss::Question => None,
            _ => Some(self.store.hold(self.processes[node], want, self.licensed)),
        };
        match (share, loss) {
            (Some(share), Loss::None) => self.holders[node].answered(share, self.now),
            _ => self.holders[node].unanswered(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(node) => drop(self.join(node)),
            Step::Leave(node) => {
                let peers = self.store.peers.entry(self.processes[node]).or_default();
                if *peers > 0 {
                    *peers -= 1;
                    self.holders[node].leave(1);
                }
            }
            Step::Ask { node, waiting, loss } => self.ask(node, u32::from(waiting), loss),
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Die(node) => {
                self.store.ended.push(self.processes[node]);
                self.processes[node] = self.processes_begun;
                self.processes_begun += 1;
                self.holders[node] = SeatHolder::new(self.licensed);
            }
            Step::TakeOver(node) => {
                let orphans: u32 = self.store.ended.iter().filter_map(|process| self.store.peers.remove(process)).sum();
                *self.store.peers.entry(self.processes[node]).or_default() += orphans;
                self.holders[node].sit(orphans);
            }
            Step::HandOver { from, to, peers } => {
                let peers = peers.min(self.store.peers(self.processes[from]));
                *self.store.peers.entry(self.processes[from]).or_default() -= peers;
                *self.store.peers.entry(self.processes[to]).or_default() += peers;
                self.holders[from].hand_over(peers);
                self.holders[to].sit(peers);
            }
            Step::GiveUp => self.store.peers.retain(|process, _| !self.store.ended.contains(process)),
        }
    }

    /// Everybody is gone, and time passes.
    fn come_to_rest(&mut self) {
        self.step(&Step::GiveUp);
        for node in 0..NODES {
            let peers = self.store.peers.remove(&self.processes[node]).unwrap_or(0);
            self.holders[node].leave(peers);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    let loss = prop_oneof![4 => Just(Loss::None), 1 => Just(Loss::Question), 1 => Just(Loss::Answer)];
    prop_oneof![
        8 => node().prop_map(Step::Join),
        4 => node().prop_map(Step::Leave),
        8 => (node(), any::<bool>(), loss).prop_map(|(node, waiting, loss)| Step::Ask { node, waiting, loss }),
        6 => (1..3_000u64).prop_map(Step::Wait),
        1 => node().prop_map(Step::Die),
        1 => node().prop_map(Step::TakeOver),
        2 => (node(), node(), 1..6u32).prop_map(|(from, to, peers)| Step::HandOver { from, to, peers }),
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
            prop_assert!(world.sitting() <= licensed, "{} sit after step {at}: {step:?}", world.sitting());
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
        prop_assert_eq!(world.sitting(), licensed);
    }
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
