//! The cluster of the model: what a state is, and what must hold of it.

mod answers;
mod steps;

use std::net::SocketAddr;

use bytes::Bytes;
use ctedge_ownership::{Command, Epoch, Estate, HandoffReason, LeaseEnd, LeaseId, NodeId, Outcome, StoreModel};
use ctedge_wire::Key;

pub(crate) use steps::Step;

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
    /// Sessions that end because nobody needs them any more.
    pub(crate) ends: u8,
    /// Nodes that have nothing more and leave.
    pub(crate) leaves: u8,
    /// Leases whose keys are deleted since nobody came for them.
    pub(crate) reaps: u8,
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
    /// A node goes on with a session that it was about to give away, and does not ask the store.
    KeepsUnasked,
    /// A node that does not know whether its session was deleted deletes whatever is there.
    DeletesBlindly,
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
    kept: bool,
    /// Whether a key was deleted while somebody served it.
    pub(crate) deleted_under_somebody: bool,
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
    /// Over; the store has yet to hear of it.
    Ending,
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
            kept: false,
            deleted_under_somebody: false,
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

    pub(crate) fn serves_kept(&self) -> bool {
        self.kept && self.serving() == 1
    }

    pub(crate) fn serves_after_crash(&self) -> bool {
        let dead = self.nodes.iter().any(|node| node.runs == Runs::Dead);
        dead && self.estates == 0
            && self.nodes.iter().any(|node| self.serves(node) && node.session != Session::Serving(Epoch(1)))
    }

    pub(crate) fn serves_anew(&self) -> bool {
        let first = Epoch(1);
        let is_later = |node: &Node| matches!(node.session, Session::Serving(epoch) if epoch > first);
        self.estates == 0 && self.undisturbed && self.nodes.iter().any(|node| self.serves(node) && is_later(node))
    }

    /// What was handed to a node that left at that moment.
    pub(crate) fn serves_what_was_left(&self) -> bool {
        self.left.leaves == 0 && self.serves_estate()
    }

    pub(crate) fn serves_cut_off(&self) -> bool {
        self.nodes.iter().any(|node| self.serves(node) && node.lapsed)
    }

    pub(crate) fn was_fenced(&self) -> bool {
        self.nodes.iter().any(|node| node.fenced && node.lives)
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

    fn exit(&mut self, node: usize) {
        self.nodes[node].runs = Runs::Dead;
        (self.nodes[node].session, self.nodes[node].beating) = (Session::None, None);
        self.expect_nothing(node);
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
