//! The nodes of the list, and those that left it while keys still live on them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::health::Thresholds;
use crate::node::{Node, NodeId, NodeSpec};

/// A node that left the list is kept at least so long: a request that chose it before may not have pinned its key yet.
const KEPT_AFTER_LISTING: Duration = Duration::from_secs(60);

/// How many nodes outside of the list are learned of from other nodes. More than a cluster replaces at once; the bound is
/// there because every node costs checks, and its name comes from elsewhere.
const LEARNED_MAX: usize = 64;

/// What a change of the list changed.
#[derive(Debug, Clone, Default)]
pub struct NodeChanges {
    /// Nodes that were not known.
    pub added: Vec<Arc<Node>>,
    /// Nodes that had left the list and are in it again.
    pub returned: Vec<Arc<Node>>,
    /// Nodes that left the list.
    pub removed: Vec<Arc<Node>>,
}

/// The nodes. Readers take a snapshot; changes are made one at a time.
#[derive(Debug)]
pub(crate) struct NodeTable {
    snapshot: RwLock<Snapshot>,
    entries: Mutex<Entries>,
}

#[derive(Debug, Clone)]
struct Snapshot {
    all: Arc<[Arc<Node>]>,
    by_address: Arc<HashMap<SocketAddr, Arc<Node>>>,
}

#[derive(Debug)]
struct Entries {
    thresholds: Thresholds,
    nodes: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    node: Arc<Node>,
    unlisted_since: Option<Instant>,
}

impl NodeTable {
    pub(crate) fn new(thresholds: Thresholds) -> Self {
        let entries = Entries { thresholds, nodes: Vec::new() };
        Self { snapshot: RwLock::new(entries.snapshot()), entries: Mutex::new(entries) }
    }

    pub(crate) fn all(&self) -> Arc<[Arc<Node>]> {
        self.snapshot.read().all.clone()
    }

    pub(crate) fn by_address(&self, address: SocketAddr) -> Option<Arc<Node>> {
        self.snapshot.read().by_address.get(&address).cloned()
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<Node>> {
        let all = self.all();
        let mut named = all.iter().filter(|node| node.id().as_str() == id);
        named.clone().find(|node| node.is_listed()).or_else(|| named.next()).cloned()
    }

    /// The node that others call `name` and that listens at `address`, as far as they know. A node of that name that is up
    /// comes first, because the address that it advertises need not be the one by which this balancer reaches it.
    pub(crate) fn owner(&self, name: &str, address: Option<SocketAddr>) -> Option<Arc<Node>> {
        let all = self.all();
        let named = || all.iter().filter(|node| node.state().serves_own() && node.own_name() == name);
        let found = named().find(|node| Some(node.address()) == address);
        let found = found.or_else(|| named().find(|node| node.is_listed())).or_else(|| named().next());
        found.cloned().or_else(|| match address {
            Some(address) => self.by_address(address),
            None => self.by_id(name),
        })
    }

    /// Takes a node outside of the list that another node has vouched for. `None` when there are too many of them.
    pub(crate) fn learn(&self, name: &str, address: SocketAddr, now: Instant) -> Option<Arc<Node>> {
        let mut entries = self.entries.lock();
        // Another request may have learned of it meanwhile.
        if let Some(known) = entries.nodes.iter().find(|entry| entry.node.address() == address) {
            return Some(known.node.clone());
        }
        if entries.nodes.iter().filter(|entry| entry.unlisted_since.is_some()).count() >= LEARNED_MAX {
            return None;
        }
        let spec = NodeSpec { id: NodeId::new(name), address, weight: 1 };
        let node = Arc::new(Node::new(&spec, entries.thresholds, now));
        node.unlist();
        node.vouched_for(now);
        entries.nodes.push(Entry { node: node.clone(), unlisted_since: Some(now) });
        *self.snapshot.write() = entries.snapshot();
        Some(node)
    }

    pub(crate) fn set_thresholds(&self, thresholds: Thresholds) {
        let mut entries = self.entries.lock();
        entries.thresholds = thresholds;
        for entry in &entries.nodes {
            entry.node.with_health(|health| health.set_thresholds(thresholds));
        }
    }

    pub(crate) fn set(&self, specs: &[NodeSpec], now: Instant) -> NodeChanges {
        let mut entries = self.entries.lock();
        let mut changes = NodeChanges::default();
        for spec in specs {
            entries.list(spec, now, &mut changes);
        }
        for entry in &mut entries.nodes {
            let named = |spec: &NodeSpec| spec.id == *entry.node.id() && spec.address == entry.node.address();
            if entry.unlisted_since.is_none() && !specs.iter().any(named) {
                entry.unlisted_since = Some(now);
                entry.node.unlist();
                changes.removed.push(entry.node.clone());
            }
        }
        entries.drop_needless(now);
        *self.snapshot.write() = entries.snapshot();
        changes
    }

    /// Drops nodes outside the list that are down or keep nothing.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut entries = self.entries.lock();
        if entries.drop_needless(now) {
            *self.snapshot.write() = entries.snapshot();
        }
    }
}

impl Entries {
    fn list(&mut self, spec: &NodeSpec, now: Instant, changes: &mut NodeChanges) {
        let is_it = |entry: &&mut Entry| *entry.node.id() == spec.id && entry.node.address() == spec.address;
        if let Some(entry) = self.nodes.iter_mut().find(is_it) {
            entry.node.list(spec.weight);
            if entry.unlisted_since.take().is_some() {
                changes.returned.push(entry.node.clone());
            }
            return;
        }
        let node = Arc::new(Node::new(spec, self.thresholds, now));
        changes.added.push(node.clone());
        self.nodes.push(Entry { node, unlisted_since: None });
    }

    /// Returns whether any node went. Pins on a node that went because it is down still hold it, and fail over.
    fn drop_needless(&mut self, now: Instant) -> bool {
        let before = self.nodes.len();
        self.nodes.retain(|entry| {
            let Some(since) = entry.unlisted_since else {
                return true;
            };
            let is_idle = entry.node.pins() == 0 && entry.node.tunnels() == 0;
            let is_late = now.saturating_duration_since(since) >= KEPT_AFTER_LISTING;
            entry.node.state().serves_own() && !(is_idle && is_late)
        });
        self.nodes.len() < before
    }

    fn snapshot(&self) -> Snapshot {
        let all: Arc<[Arc<Node>]> = self.nodes.iter().map(|entry| entry.node.clone()).collect();
        // Listed nodes come last, so that they win an address that an unlisted one had under another name.
        let (listed, unlisted): (Vec<_>, Vec<_>) = all.iter().partition(|node| node.is_listed());
        let by_address = unlisted.into_iter().chain(listed).map(|node| (node.address(), node.clone())).collect();
        Snapshot { all, by_address: Arc::new(by_address) }
    }
}
