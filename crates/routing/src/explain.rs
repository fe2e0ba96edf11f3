//! Why a key is where it is, for operators.

use std::net::SocketAddr;
use std::time::Instant;

use ctedge_wire::Key;
use serde::Serialize;

use crate::node::{Node, NodeId, NodeState};
use crate::pins::{Pin, PinReason};
use crate::router::Router;
use crate::source::Standing;

/// Where the next request of a key would go, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The key.
    pub key: Key,
    /// The node, if any would take it.
    pub node: Option<NodeId>,
    /// Why that node: the reason of its pin, or `placed`, `next_rank`, `none_up`.
    pub reason: &'static str,
    /// The same as a sentence.
    pub why: String,
    /// The node's state.
    pub state: Option<NodeState>,
    /// All nodes as placement ranks them for the key, the best first.
    pub ranked: Vec<RankedNode>,
    /// What is remembered of the key.
    pub pin: Option<PinView>,
}

/// A node in the order of its rank.
#[derive(Debug, Clone, Serialize)]
pub struct RankedNode {
    /// Its name.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it takes.
    pub state: NodeState,
    /// Its share of the keys relative to other nodes.
    pub weight: u16,
    /// How many sessions it is believed to have.
    pub load: u64,
    /// Whether the load bound lets it take one more.
    pub within_bound: bool,
}

/// A pin, for people.
#[derive(Debug, Clone, Serialize)]
pub struct PinView {
    /// The node.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it takes.
    pub state: NodeState,
    /// Whether it stands in the list of nodes.
    pub listed: bool,
    /// Why the key is there.
    pub reason: PinReason,
    /// How long it has been there, in seconds.
    pub age_s: u64,
    /// How long ago it was last used, in seconds.
    pub idle_s: u64,
    /// How many tunnels of the key are open.
    pub tunnels: u32,
    /// The highest ownership epoch that is known, 0 without any.
    pub epoch: u64,
    /// Whether the node has answered for the key.
    pub settled: bool,
}

impl Router {
    /// Explains where the next request that names `key` would go; `ranked` is as in [`Self::choose`]. Changes nothing.
    #[must_use]
    pub fn explain(&self, key: &Key, ranked: impl IntoIterator<Item = SocketAddr>, now: Instant) -> Explanation {
        let addresses: Vec<SocketAddr> = ranked.into_iter().collect();
        let pin = self.pins.peek(key, now);
        let stays = pin.as_ref().filter(|pin| pin.node.state().serves_own());
        let place = match stays {
            Some(pin) => Some((pin.node.clone(), pin.reason)),
            None => self.pick(Standing::Named, addresses.iter().copied(), &[]),
        };
        let leaves = pin.as_ref().filter(|pin| stays.is_none() && pin.holds());
        let place = place.map(|(node, reason)| (node, if leaves.is_some() { PinReason::Failover } else { reason }));
        Explanation {
            key: key.clone(),
            node: place.as_ref().map(|(node, _)| node.id().clone()),
            reason: place.as_ref().map_or("none_up", |(_, reason)| reason.as_str()),
            why: why(place.as_ref().map(|(node, reason)| (&**node, *reason)), stays.is_some(), leaves),
            state: place.as_ref().map(|(node, _)| node.state()),
            ranked: self.ranked(&addresses),
            pin: pin.as_ref().map(|pin| PinView::of(pin, now)),
        }
    }

    fn ranked(&self, addresses: &[SocketAddr]) -> Vec<RankedNode> {
        let eligible = self.eligible();
        let nodes = addresses.iter().filter_map(|address| self.nodes.by_address(*address));
        let view = |node: std::sync::Arc<Node>| RankedNode {
            node: node.id().clone(),
            address: node.address(),
            state: node.state(),
            weight: node.weight(),
            load: node.load(),
            within_bound: eligible.admits(&node),
        };
        nodes.map(view).collect()
    }
}

impl PinView {
    fn of(pin: &Pin, now: Instant) -> Self {
        Self {
            node: pin.node.id().clone(),
            address: pin.node.address(),
            state: pin.node.state(),
            listed: pin.node.is_listed(),
            reason: pin.reason,
            age_s: now.saturating_duration_since(pin.since).as_secs(),
            idle_s: now.saturating_duration_since(pin.last_seen).as_secs(),
            tunnels: pin.tunnels,
            epoch: pin.epoch,
            settled: pin.settled,
        }
    }
}

fn why(place: Option<(&Node, PinReason)>, is_pinned: bool, leaves: Option<&Pin>) -> String {
    let Some((node, reason)) = place else {
        return "No node is up that takes the key.".to_owned();
    };
    let id = node.id();
    if let Some(pin) = leaves {
        return format!("The key lived on {}, which is down; {id} is the best node that takes it.", pin.node.id());
    }
    let because = match reason {
        PinReason::Placed => format!("placement ranks {id} first"),
        PinReason::NextRank => "the nodes of better ranks took no new keys or could not be reached".to_owned(),
        PinReason::LoadBound => "the nodes of better ranks had more than their share".to_owned(),
        PinReason::Failover => "the node where it lived before went down".to_owned(),
        PinReason::Redirect => "a node named the owner".to_owned(),
        PinReason::Handoff => "the node where it lived before gave it away".to_owned(),
        PinReason::Takeover => format!("{id} took it over from a node that could not be reached"),
        PinReason::Tunnel => "a tunnel was open when nothing else was known of it".to_owned(),
    };
    if is_pinned {
        format!("The key is pinned to {id}: {because}.")
    } else {
        format!("The key is not pinned yet; it would go to {id}: {because}.")
    }
}
