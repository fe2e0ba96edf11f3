//! A router, its nodes and a clock.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_routing::{
    Choice, ConnectFailure, Node, NodeId, NodeSpec, PinReason, Placed, Router, RouterSettings, Standing, Thresholds,
};
use ctedge_wire::{HealthReport, Key, NodeStatus};

pub(crate) const IDLE_MAX: Duration = Duration::from_secs(60);

/// A router over nodes `n1`, `n2`, … that are all up, and a clock.
pub(crate) struct Bench {
    pub(crate) router: Router,
    pub(crate) now: Cell<Instant>,
}

impl Bench {
    pub(crate) fn new(nodes: &[u16]) -> Self {
        Self::with_pins(nodes, 1_000)
    }

    pub(crate) fn with_pins(nodes: &[u16], pins_max: usize) -> Self {
        let thresholds = Thresholds { rise: 1, fall: 2 };
        let settings = RouterSettings { seed: 7, pins_max, pin_idle_max: IDLE_MAX, load_bound: 0.25, thresholds };
        let bench = Self { router: Router::new(&settings), now: Cell::new(Instant::now()) };
        bench.list(nodes);
        nodes.iter().for_each(|number| bench.says(*number, None));
        bench
    }

    pub(crate) fn list(&self, nodes: &[u16]) {
        let specs: Vec<NodeSpec> = nodes.iter().map(|number| spec(*number)).collect();
        self.router.set_nodes(&specs, self.now());
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.now.set(self.now() + Duration::from_secs(seconds));
    }

    pub(crate) fn node(&self, number: u16) -> Arc<Node> {
        self.router.node(&format!("n{number}")).expect("a known node")
    }

    /// A check of the node succeeds; it reports this, or nothing.
    pub(crate) fn says(&self, number: u16, report: Option<(NodeStatus, u64)>) {
        let report = report.map(|(status, sessions)| HealthReport {
            status,
            node: format!("n{number}"),
            pid: 1,
            version: "0".into(),
            uptime_s: 1,
            sessions,
            ..HealthReport::default()
        });
        self.router.check_succeeded(&self.node(number), report, self.now(), self.now());
    }

    pub(crate) fn drains(&self, number: u16) {
        self.says(number, Some((NodeStatus::Draining, 0)));
    }

    pub(crate) fn dies(&self, number: u16) {
        self.router.connect_failed(&self.node(number), ConnectFailure::Refused, self.now());
    }

    pub(crate) fn choose(&self, name: &str, standing: Standing, ranked: &[u16], tried: &[u16]) -> Choice {
        let tried: Vec<_> = tried.iter().map(|number| self.node(*number)).collect();
        self.router.choose(&key(name), standing, addresses(ranked), &tried, self.now())
    }

    /// Chooses and has the node answer.
    pub(crate) fn asks(&self, name: &str, standing: Standing, ranked: &[u16]) -> (u16, PinReason) {
        let placed = placed(self.choose(name, standing, ranked, &[]));
        assert!(self.router.answered(&key(name), &placed.node, self.now()));
        (placed.node.address().port(), placed.reason)
    }

    pub(crate) fn named(&self, name: &str, ranked: &[u16]) -> (u16, PinReason) {
        self.asks(name, Standing::Named, ranked)
    }
}

pub(crate) fn spec(number: u16) -> NodeSpec {
    NodeSpec { id: NodeId::new(&format!("n{number}")), address: address(number), weight: 1 }
}

pub(crate) fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

pub(crate) fn addresses(numbers: &[u16]) -> Vec<SocketAddr> {
    numbers.iter().map(|number| address(*number)).collect()
}

pub(crate) fn key(name: &str) -> Key {
    Key::parse(name).expect("a sound key")
}

pub(crate) fn placed(choice: Choice) -> Placed {
    match choice {
        Choice::Node(placed) => placed,
        other => panic!("expected a node, not {other:?}"),
    }
}

pub(crate) fn port(choice: Choice) -> u16 {
    placed(choice).node.address().port()
}
