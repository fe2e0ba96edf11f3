//! What `/status` shows.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use ctedge_routing::{Node, NodeId, NodeState};
use ctedge_wire::{DrainProgress, StoreState};
use serde::Serialize;

use crate::shared::Shared;
use crate::stop::Phase;

/// The answer of `/status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    balancer: BalancerView,
    nodes: Vec<NodeView>,
}

#[derive(Debug, Serialize)]
struct BalancerView {
    version: &'static str,
    pid: u32,
    uptime_s: u64,
    status: &'static str,
    connections: usize,
    tunnels: usize,
    requests_in_flight: i64,
    pins: usize,
    pins_max: usize,
    /// Where its supervisor takes commands; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    control_socket: Option<PathBuf>,
}

/// A node. What only the node knows is `null` for one that does not report it.
#[derive(Debug, Serialize)]
pub(super) struct NodeView {
    id: NodeId,
    address: SocketAddr,
    state: NodeState,
    /// How long it has been in this state.
    state_s: u64,
    /// Why the last check failed, if it did, or what the node says that an operator has to set right.
    trouble: Option<String>,
    /// Whether it stands in the list of nodes; if not, it only keeps what it has.
    listed: bool,
    weight: u16,
    pins: u64,
    tunnels: u64,
    /// Where it is, if it says so.
    region: Option<String>,
    pid: Option<u32>,
    version: Option<String>,
    uptime_s: Option<u64>,
    sessions: Option<u64>,
    peers: Option<u64>,
    connections: Option<u64>,
    lag_ms: Option<f64>,
    /// How far its drain has come, while there is one.
    drain: Option<DrainProgress>,
    /// How it gets along with the store that it shares.
    store: Option<StoreState>,
}

/// The balancer and its nodes at this moment.
pub(super) fn status(shared: &Shared) -> Status {
    let now = Instant::now();
    let balancer = BalancerView {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        uptime_s: now.saturating_duration_since(shared.started).as_secs(),
        status: if shared.stop.phase() == Phase::Serving { "ready" } else { "stopping" },
        connections: shared.limits.connections(),
        tunnels: shared.limits.tunnels(),
        requests_in_flight: shared.metrics.in_flight.get(),
        pins: shared.router.pin_counts().total(),
        pins_max: shared.live.load().settings.pins.count_max,
        control_socket: shared.control_socket.get().cloned(),
    };
    let nodes = shared.router.nodes();
    Status { balancer, nodes: nodes.iter().map(|shown| node(shown, now)).collect() }
}

/// One node at this moment.
pub(super) fn node(node: &Node, now: Instant) -> NodeView {
    // A report of a node that is down is of another time.
    let report = node.report().filter(|_| node.state() != NodeState::Down);
    let report = report.as_ref();
    NodeView {
        id: node.id().clone(),
        address: node.address(),
        state: node.state(),
        state_s: node.in_state_for(now).as_secs(),
        trouble: node.trouble().or_else(|| report.and_then(|report| report.trouble.clone())),
        listed: node.is_listed(),
        weight: node.weight(),
        pins: node.pins(),
        tunnels: node.tunnels(),
        region: report.and_then(|report| report.region.clone()),
        pid: report.map(|report| report.pid),
        version: report.map(|report| report.version.clone()),
        uptime_s: report.map(|report| report.uptime_s),
        sessions: report.map(|report| report.sessions),
        peers: report.map(|report| report.peers),
        connections: report.map(|report| report.connections),
        lag_ms: report.map(|report| report.lag_ms),
        drain: report.and_then(|report| report.drain.clone()),
        store: report.map(|report| report.store),
    }
}
