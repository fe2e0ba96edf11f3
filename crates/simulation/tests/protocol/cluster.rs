//! The cluster of the model: what a state is, and what can happen next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use bytes::Bytes;
use ctedge_ownership::{Command, Epoch, Estate, HandoffReason, LeaseEnd, LeaseId, NodeId, Outcome, Record, StoreModel};
use ctedge_wire::{Key, NodeStatus};

/// Why any lease ends: it changes nothing but what is counted, and would only multiply the states.
const ENDED: LeaseEnd = LeaseEnd::Silent;

/// How much of everything there is. What is counted here can happen so often in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    pub(crate) nodes: usize,
    pub(crate) crashes: u8,
    pub(crate) freezes: u8,
    /// Commands whose answer does not come.
    pub(crate) failures: u8,
    pub(crate) handoffs: u8,
    pub(crate) beats: u8,
    pub(crate) broken: Option<Broken>,
}

/// A rule that a cluster does not keep, to see that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// A node serves however old its last proof is.
    NoFence,
    /// A silent lease is ended without asking the node itself.
    NoProbe,
    /// A heartbeat's answer proves the lease from when it came, not from when it was asked for.
    LateProof,
    /// A node takes an estate up before the store has heard of it.
    AdoptsUnasked,
    /// A node forgets a session before the store has taken its estate.
    ForgetsFirst,
}

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Cluster {
    store: StoreModel,
    nodes: Vec<Node>,
    /// In no order: each may be next.
    commands: Vec<Sent>,
    left: Bounds,
    undisturbed: bool,
    created: bool,
    estates: u8,
    adopted: Vec<u8>,
    pub(crate) adopted_twice: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    runs: Runs,
    incarnation: u64,
    /// Whether the store confirmed its lease.
    lives: bool,
    /// Whether the last proof of that is older than `lost_after`.
    lapsed: bool,
    /// The beat at which everyone else may call it silent: none came for as long since it lapsed.
    silent_at: Option<u64>,
    /// Whether an attempt to beat has failed since the last that succeeded.
    failed: bool,
    /// Whether it has missed a probe, and knows that it may have.
    away: bool,
    /// Whether a beat is under way, and whether its answer would prove anything yet.
    beating: Option<bool>,
    session: Session,
    fenced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Runs {
    Yes,
    Frozen,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Session {
    None,
    Adopting(Epoch, u8),
    Serving(Epoch),
    /// Closed; it exists in that estate.
    Leaving(u8),
}

/// A command on its way to the store, or its answer on the way back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    node: usize,
    command: Command,
    answer: Option<Outcome>,
    /// Whether the node waits for an answer.
    expected: bool,
}

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Register(usize),
    Beat(usize),
    /// The node's last proof of its lease is too old.
    Lapse(usize),
    Ask(usize),
    HandOff(usize, Option<usize>),
    /// One node finds another silent, and its probe gets no answer.
    FindSilent(usize, usize),
    /// A node ends the lease that had its address before.
    EndFormer(usize),
    Freeze(usize),
    Thaw(usize),
    Crash(usize),
    Restart(usize),
    Execute(usize),
    Answer(usize),
    Fail(usize),
}

fn key() -> Key {
    Key::parse("k").expect("a key")
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], node as u16))
}

impl Node {
    fn new() -> Self {
        Self {
            runs: Runs::Yes,
            incarnation: 1,
            lives: false,
            lapsed: true,
            silent_at: None,
            failed: false,
            away: false,
            beating: None,
            session: Session::None,
            fenced: false,
        }
    }

    fn serves(&self, broken: Option<Broken>) -> bool {
        let fence = !self.lapsed || (self.failed && !self.away) || broken == Some(Broken::NoFence);
        self.runs == Runs::Yes && self.lives && fence && matches!(self.session, Session::Serving(_))
    }
}

impl Cluster {
    /// All nodes are registered and fresh; there is no session yet.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let nodes = vec![Node { lives: true, lapsed: false, ..Node::new() }; bounds.nodes];
        let mut cluster = Self {
            store: StoreModel::default(),
            nodes,
            commands: Vec::new(),
            left: bounds,
            undisturbed: true,
            created: false,
            estates: 0,
            adopted: Vec::new(),
            adopted_twice: false,
        };
        for node in 0..bounds.nodes {
            let (lease, address) = (cluster.lease(node), address(node));
            cluster.store.execute(&Command::Register { lease, address, pid: 0 });
        }
        cluster
    }

    pub(crate) fn serving(&self) -> usize {
        self.nodes.iter().filter(|node| self.serves(node)).count()
    }

    fn serves(&self, node: &Node) -> bool {
        node.serves(self.left.broken)
    }

    fn breaks(&self, rule: Broken) -> bool {
        self.left.broken == Some(rule)
    }

    pub(crate) fn owners_differ_in_epoch(&self) -> bool {
        let epoch = |node: &Node| match node.session {
            Session::Serving(epoch) if node.runs != Runs::Dead => Some(epoch),
            _ => None,
        };
        let mut epochs: Vec<Epoch> = self.nodes.iter().filter_map(epoch).collect();
        let count = epochs.len();
        epochs.sort_unstable();
        epochs.dedup();
        epochs.len() == count
    }

    pub(crate) fn is_recorded(&self) -> bool {
        !self.created || self.store.record(&key()).is_some()
    }

    /// The last estate is in the store, or in a node that gives it or takes it up, or was taken up.
    pub(crate) fn keeps_estate(&self) -> bool {
        let last = self.estates;
        let in_store = || self.store.legacy(&key()).and_then(|legacy| legacy.estate.as_deref()) == Some(&[last][..]);
        let in_memory = |node: &Node| match node.session {
            Session::Leaving(estate) | Session::Adopting(_, estate) => estate == last,
            _ => false,
        };
        last == 0 || !self.undisturbed || self.adopted.contains(&last) || in_store() || self.nodes.iter().any(in_memory)
    }

    pub(crate) fn serves_estate(&self) -> bool {
        !self.adopted.is_empty() && self.serving() == 1
    }

    pub(crate) fn serves_after_crash(&self) -> bool {
        let dead = self.nodes.iter().any(|node| node.runs == Runs::Dead);
        dead && self.estates == 0
            && self.nodes.iter().any(|node| self.serves(node) && node.session != Session::Serving(Epoch(1)))
    }

    pub(crate) fn serves_cut_off(&self) -> bool {
        self.nodes.iter().any(|node| self.serves(node) && node.lapsed)
    }

    pub(crate) fn was_fenced(&self) -> bool {
        self.nodes.iter().any(|node| node.fenced && node.lives)
    }

    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        for (index, node) in self.nodes.iter().enumerate() {
            match node.runs {
                Runs::Frozen => steps.push(Step::Thaw(index)),
                Runs::Dead => steps.push(Step::Restart(index)),
                Runs::Yes => self.steps_of(index, node, steps),
            }
            if node.lives && (!node.lapsed || node.silent_at != self.beat_of(index)) {
                steps.push(Step::Lapse(index));
            }
            if node.runs == Runs::Yes && self.left.freezes > 0 {
                steps.push(Step::Freeze(index));
            }
            if node.runs != Runs::Dead && self.left.crashes > 0 {
                steps.push(Step::Crash(index));
            }
        }
        for (index, sent) in self.commands.iter().enumerate() {
            match sent.answer {
                None => steps.push(Step::Execute(index)),
                Some(_) if self.nodes[sent.node].runs == Runs::Yes => steps.push(Step::Answer(index)),
                Some(_) => {}
            }
            if sent.expected && self.left.failures > 0 && self.nodes[sent.node].runs == Runs::Yes {
                steps.push(Step::Fail(index));
            }
        }
    }

    fn steps_of(&self, index: usize, node: &Node, steps: &mut Vec<Step>) {
        if node.beating.is_none() && !node.lives {
            steps.push(Step::Register(index));
        }
        if node.beating.is_none() && node.lives && self.left.beats > 0 {
            steps.push(Step::Beat(index));
        }
        if node.lives && node.session == Session::None && !self.is_busy(index) {
            steps.push(Step::Ask(index));
        }
        let serves_fresh = self.serves(node) && !node.lapsed;
        if serves_fresh && !self.is_busy(index) && self.left.handoffs > 0 {
            steps.push(Step::HandOff(index, None));
            let others = (0..self.nodes.len()).filter(|other| *other != index);
            steps.extend(others.map(|other| Step::HandOff(index, Some(other))));
        }
        for other in (0..self.nodes.len()).filter(|other| *other != index && node.lives) {
            let is_silent = self.nodes[other].silent_at.is_some() && self.nodes[other].silent_at == self.beat_of(other);
            let may_be_ended = self.nodes[other].runs != Runs::Yes || self.breaks(Broken::NoProbe);
            if is_silent && may_be_ended && self.store.lives(&self.lease(other)) {
                steps.push(Step::FindSilent(index, other));
            }
        }
        if node.lives && self.former(index).is_some() {
            steps.push(Step::EndFormer(index));
        }
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Register(node) => {
                self.nodes[node].beating = Some(true);
                let (lease, address) = (self.lease(node), address(node));
                self.send(node, Command::Register { lease, address, pid: 0 }, true);
            }
            Step::Beat(node) => {
                self.left.beats -= 1;
                self.nodes[node].beating = Some(true);
                let (lease, status, report) = (self.lease(node), NodeStatus::Ready, String::new());
                self.send(node, Command::Beat { lease, status, report }, true);
            }
            Step::Lapse(node) => {
                let silent_at = self.beat_of(node);
                let node = &mut self.nodes[node];
                (node.lapsed, node.silent_at) = (true, silent_at);
                // What was asked for before proves nothing any more.
                node.beating = node.beating.map(|_| false);
            }
            Step::Ask(node) => self.send(node, Command::Look { key: key() }, true),
            Step::HandOff(node, to) => self.hand_off(node, to),
            Step::FindSilent(finder, silent) => {
                self.nodes[silent].away |= !self.breaks(Broken::NoProbe);
                let (lease, beat) = (self.lease(silent), self.beat_of(silent));
                self.send(finder, Command::EndLease { lease, beat, why: ENDED }, false);
            }
            Step::EndFormer(node) => {
                if let Some((lease, beat)) = self.former(node) {
                    self.send(node, Command::EndLease { lease, beat: Some(beat), why: ENDED }, false);
                }
            }
            Step::Freeze(node) => {
                (self.left.freezes, self.undisturbed) = (self.left.freezes - 1, false);
                self.nodes[node].runs = Runs::Frozen;
            }
            Step::Thaw(node) => self.nodes[node].runs = Runs::Yes,
            Step::Crash(node) => {
                (self.left.crashes, self.undisturbed) = (self.left.crashes - 1, false);
                self.nodes[node].runs = Runs::Dead;
                (self.nodes[node].session, self.nodes[node].beating) = (Session::None, None);
                self.expect_nothing(node);
            }
            Step::Restart(node) => {
                let incarnation = self.nodes[node].incarnation + 1;
                self.nodes[node] = Node { incarnation, ..Node::new() };
            }
            Step::Execute(index) => self.execute(index),
            Step::Answer(index) => self.answer(index),
            Step::Fail(index) => self.fail(index),
        }
        self.commands.sort_by_cached_key(fingerprint);
        self.commands.dedup();
    }

    fn lease(&self, node: usize) -> LeaseId {
        LeaseId::new(NodeId::new(["a", "b", "c"][node]), self.nodes[node].incarnation)
    }

    fn beat_of(&self, node: usize) -> Option<u64> {
        let lease = self.lease(node);
        self.store.leases().find(|known| known.id == lease).map(|lease| lease.beat)
    }

    /// The lease of a former process at the node's address.
    fn former(&self, node: usize) -> Option<(LeaseId, u64)> {
        let (own, at) = (self.lease(node), address(node));
        let is_former =
            |lease: &&ctedge_ownership::Lease| lease.address == at && lease.id != own && lease.ended.is_none();
        self.store.leases().find(is_former).map(|lease| (lease.id.clone(), lease.beat))
    }

    /// Whether the node waits for an answer about the key.
    fn is_busy(&self, node: usize) -> bool {
        let is_about_key = |command: &Command| {
            !matches!(command, Command::Beat { .. } | Command::Register { .. } | Command::EndLease { .. })
        };
        self.commands.iter().any(|sent| sent.node == node && sent.expected && is_about_key(&sent.command))
    }

    fn expect_nothing(&mut self, node: usize) {
        for sent in self.commands.iter_mut().filter(|sent| sent.node == node) {
            sent.expected = false;
        }
        self.commands.retain(|sent| sent.expected || sent.answer.is_none());
    }

    fn send(&mut self, node: usize, command: Command, expected: bool) {
        self.commands.push(Sent { node, command, answer: None, expected });
    }

    fn execute(&mut self, index: usize) {
        let outcome = self.store.execute(&self.commands[index].command);
        if matches!(self.commands[index].command, Command::Create { .. }) && matches!(outcome, Outcome::Owned { .. }) {
            self.created = true;
        }
        if self.commands[index].expected {
            self.commands[index].answer = Some(outcome);
        } else {
            self.commands.remove(index);
        }
    }

    /// The answer does not come. The command may be executed yet, or was.
    fn fail(&mut self, index: usize) {
        self.left.failures -= 1;
        let sent = self.commands[index].clone();
        if sent.answer.is_some() {
            self.commands.remove(index);
        } else {
            self.commands[index].expected = false;
        }
        let node = &mut self.nodes[sent.node];
        match sent.command {
            Command::Beat { .. } | Command::Register { .. } => (node.failed, node.beating) = (true, None),
            Command::Look { .. } => {}
            Command::HandOff { .. } if self.left.broken == Some(Broken::ForgetsFirst) => node.session = Session::None,
            again => self.send(sent.node, again, true),
        }
    }

    fn answer(&mut self, index: usize) {
        let Sent { node, command, answer: Some(outcome), .. } = self.commands.remove(index) else {
            return;
        };
        let by = self.lease(node);
        match outcome {
            Outcome::LeaseEnded => self.let_go(node),
            Outcome::Registered | Outcome::Beaten { .. } => {
                let proves_late = self.breaks(Broken::LateProof);
                let node = &mut self.nodes[node];
                node.lives = true;
                if node.beating == Some(true) || proves_late {
                    (node.lapsed, node.silent_at, node.away) = (false, None, false);
                }
                (node.beating, node.failed) = (None, false);
            }
            Outcome::Found(record) | Outcome::Taken(record) => self.found(node, record),
            Outcome::Lost(Some(record)) => {
                self.nodes[node].session = Session::None;
                self.found(node, record);
            }
            Outcome::Missing if matches!(command, Command::Look { .. }) && !self.created => {
                self.send(node, Command::Create { key: key(), by }, true);
            }
            Outcome::Owned { epoch, legacy } => match legacy.estate {
                Some(estate) if self.breaks(Broken::AdoptsUnasked) => self.adopted(node, epoch, estate[0]),
                Some(estate) => {
                    self.nodes[node].session = Session::Adopting(epoch, estate[0]);
                    self.send(node, Command::Adopt { key: key(), epoch, by }, true);
                }
                None => self.nodes[node].session = Session::Serving(epoch),
            },
            Outcome::Adopted => {
                if let Session::Adopting(epoch, estate) = self.nodes[node].session {
                    self.adopted(node, epoch, estate);
                }
            }
            Outcome::HandedOff { .. } => self.nodes[node].session = Session::None,
            Outcome::TargetEnded => {
                if let Command::HandOff { key, epoch, by, estate, reason, .. } = command {
                    self.send(node, Command::HandOff { key, epoch, by, to: None, estate, reason }, true);
                }
            }
            _ => {}
        }
    }

    fn adopted(&mut self, node: usize, epoch: Epoch, estate: u8) {
        self.nodes[node].session = Session::Serving(epoch);
        self.adopted_twice |= self.adopted.contains(&estate);
        self.adopted.push(estate);
    }

    fn found(&mut self, node: usize, record: Record) {
        let (key, by) = (record.key, self.lease(node));
        if record.owner == by {
            self.send(node, Command::Read { key, epoch: record.epoch, by }, true);
        } else if record.owner_ended.is_some() {
            self.send(node, Command::TakeOver { key, from: record.epoch, by }, true);
        }
    }

    fn hand_off(&mut self, node: usize, to: Option<usize>) {
        let Session::Serving(epoch) = self.nodes[node].session else {
            return;
        };
        self.left.handoffs -= 1;
        self.estates += 1;
        self.nodes[node].session = Session::Leaving(self.estates);
        let (by, to) = (self.lease(node), to.map(|to| self.lease(to)));
        let estate = Estate { bytes: Bytes::copy_from_slice(&[self.estates]), ..Estate::default() };
        self.send(node, Command::HandOff { key: key(), epoch, by, to, estate, reason: HandoffReason::DrainNow }, true);
    }

    /// The lease is over.
    fn let_go(&mut self, node: usize) {
        self.expect_nothing(node);
        let incarnation = self.nodes[node].incarnation + 1;
        self.nodes[node] = Node { incarnation, fenced: true, ..Node::new() };
    }
}

/// An order of commands that does not depend on which was sent first.
fn fingerprint(sent: &Sent) -> u64 {
    let mut hasher = DefaultHasher::new();
    sent.hash(&mut hasher);
    hasher.finish()
}
