//! A node as the balancer knows it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ctedge_wire::{HealthReport, NodeStatus};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};

use crate::health::{HealthMachine, Thresholds};

/// A node's name in logs, metrics and commands. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Takes the name as it is.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NodeId({})", self.0)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What a node takes, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum NodeState {
    /// New keys and its own.
    Ready,
    /// Only its own, until they are gone and it exits.
    Draining,
    /// Only its own, until it is resumed.
    Suspended,
    /// Nothing: it does not answer.
    Down,
}

impl NodeState {
    /// All states, in order.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Draining, Self::Suspended, Self::Down];

    /// The word of logs, metrics and the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Suspended => "suspended",
            Self::Down => "down",
        }
    }

    /// Whether keys that live nowhere may be placed on the node.
    #[must_use]
    pub fn accepts_new(self) -> bool {
        self == Self::Ready
    }

    /// Whether requests of keys that live on the node go there.
    #[must_use]
    pub fn serves_own(self) -> bool {
        self != Self::Down
    }
}

impl From<NodeStatus> for NodeState {
    fn from(status: NodeStatus) -> Self {
        match status {
            NodeStatus::Ready => Self::Ready,
            NodeStatus::Draining => Self::Draining,
            NodeStatus::Suspended => Self::Suspended,
        }
    }
}

/// A node as the list of nodes names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub id: NodeId,
    /// Where it listens. Placement knows the node by this.
    pub address: SocketAddr,
    /// Its share of the keys relative to other nodes, 1 to 1000.
    pub weight: u16,
}

/// A node that the balancer sends requests to: one (id, address) from its listing until nothing needs it any more.
///
/// Everything in here changes under concurrent readers, each value on its own; a decision that must hold together is
/// made by the pins.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    address: SocketAddr,
    weight: AtomicU16,
    listed: AtomicBool,
    shares_ownership: AtomicBool,
    is_near: AtomicBool,
    state: AtomicU8,
    health: Mutex<HealthMachine>,
    load: Load,
}

/// How many sessions a node is believed to have.
#[derive(Debug, Default)]
struct Load {
    /// Sessions by the node's last report, or [`NO_REPORT`].
    reported: AtomicU64,
    /// Keys that were placed on the node since that report.
    placed: AtomicU64,
    /// Pins on the node.
    pins: AtomicU64,
    /// Open tunnels to the node.
    tunnels: AtomicU64,
}

/// Stands for "this node does not report sessions".
const NO_REPORT: u64 = u64::MAX;

impl Node {
    pub(crate) fn new(spec: &NodeSpec, thresholds: Thresholds, now: Instant) -> Self {
        let health = HealthMachine::new(thresholds, now);
        Self {
            id: spec.id.clone(),
            address: spec.address,
            weight: AtomicU16::new(spec.weight),
            listed: AtomicBool::new(true),
            shares_ownership: AtomicBool::new(false),
            is_near: AtomicBool::new(true),
            state: AtomicU8::new(health.state() as u8),
            health: Mutex::new(health),
            load: Load { reported: AtomicU64::new(NO_REPORT), ..Load::default() },
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its share of the keys relative to other nodes.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }

    /// What it takes.
    #[must_use]
    pub fn state(&self) -> NodeState {
        NodeState::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }

    /// Whether it stands in the list of nodes. One that does not keeps the keys that live on it until it is down.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// Whether it shares with others who owns which key, and so redirects what is not its own. It stays true of a node
    /// that is down: whatever takes its place asks the store.
    #[must_use]
    pub fn shares_ownership(&self) -> bool {
        self.shares_ownership.load(Ordering::Acquire)
    }

    /// Whether it is in the balancer's own region, or the balancer has none.
    #[must_use]
    pub fn is_near(&self) -> bool {
        self.is_near.load(Ordering::Relaxed)
    }

    /// What it calls itself, which is what other nodes call it. A name from the list of nodes may be another one.
    #[must_use]
    pub fn own_name(&self) -> String {
        let health = self.health.lock();
        let reported = health.report().map(|report| report.node.as_str()).filter(|name| !name.is_empty());
        reported.unwrap_or(self.id.as_str()).to_owned()
    }

    /// Whether new keys may be placed on it.
    #[must_use]
    pub fn accepts_new(&self) -> bool {
        self.is_listed() && self.state().accepts_new()
    }

    /// How many sessions it is believed to have: those it reported and the keys placed since, or, where it does not
    /// report any, the keys that are pinned to it.
    #[must_use]
    pub fn load(&self) -> u64 {
        match self.load.reported.load(Ordering::Relaxed) {
            NO_REPORT => self.pins(),
            reported => reported.saturating_add(self.load.placed.load(Ordering::Relaxed)),
        }
    }

    /// How many keys are pinned to it.
    #[must_use]
    pub fn pins(&self) -> u64 {
        self.load.pins.load(Ordering::Relaxed)
    }

    /// How many tunnels are open to it.
    #[must_use]
    pub fn tunnels(&self) -> u64 {
        self.load.tunnels.load(Ordering::Relaxed)
    }

    /// What it last said of itself, if it is one that does.
    #[must_use]
    pub fn report(&self) -> Option<HealthReport> {
        self.health.lock().report().cloned()
    }

    /// Whether it goes on with a lease that is over, as far as it has told.
    pub(crate) fn is_over(&self) -> bool {
        self.health.lock().is_over()
    }

    /// Why the last check or connect failed, if the last one did.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.health.lock().trouble().map(str::to_owned)
    }

    /// How long it has been in its state.
    #[must_use]
    pub fn in_state_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.health.lock().since())
    }

    /// Runs `change` on the health machine and publishes the state that it leaves.
    pub(crate) fn with_health<R>(&self, change: impl FnOnce(&mut HealthMachine) -> R) -> R {
        let mut health = self.health.lock();
        let result = change(&mut health);
        self.state.store(health.state() as u8, Ordering::Release);
        result
    }

    /// Takes what counts for placing keys from a report, or from the lack of one. Keys that were placed while the report
    /// was on its way are not in it and are forgotten until the next one: an error of the keys of one round trip, which
    /// the bound can bear.
    pub(crate) fn reported(&self, report: Option<&HealthReport>, own_region: Option<&str>) {
        let region = report.and_then(|report| report.region.as_deref());
        self.is_near.store(own_region.is_none() || region == own_region, Ordering::Relaxed);
        self.load.reported.store(report.map_or(NO_REPORT, |report| report.sessions), Ordering::Relaxed);
        self.load.placed.store(0, Ordering::Relaxed);
        self.shares_ownership.store(report.is_some_and(|report| report.shares_ownership), Ordering::Release);
    }

    /// Another node vouches for it: it owns a key, so that it was alive a moment ago and shares ownership.
    pub(crate) fn vouched_for(&self, now: Instant) {
        self.shares_ownership.store(true, Ordering::Release);
        self.with_health(|health| health.vouched_for(now));
    }

    pub(crate) fn key_placed(&self) {
        self.load.placed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pin_added(&self) {
        self.load.pins.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pin_removed(&self) {
        self.load.pins.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn tunnel_added(&self) {
        self.load.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn tunnel_removed(&self) {
        self.load.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn list(&self, weight: u16) {
        self.weight.store(weight, Ordering::Relaxed);
        self.listed.store(true, Ordering::Release);
    }

    pub(crate) fn unlist(&self) {
        self.listed.store(false, Ordering::Release);
    }
}
