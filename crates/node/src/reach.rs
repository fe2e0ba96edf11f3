//! Whether anybody reaches this node.
//!
//! A node that beats keeps its sessions, and nobody takes them from it. If something between the machines, a firewall or a
//! route, keeps everybody else from it, it is the one to find out and to give them up. Two things together say so: balancers
//! tell another node that they cannot connect to this one, which reads that beside the other's lease; and nobody has asked
//! this one for anything for a while, not even for its health.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ctedge_ownership::{Lease, NodeId};
use parking_lot::Mutex;
use serde::Deserialize;

/// How long nobody may ask for anything. Balancers ask each second for the health of a node.
const UNASKED_MAX: Duration = Duration::from_secs(10);

/// How long it is told that a node could not be reached. Whoever looks for one of its sessions says it anew.
const TOLD: Duration = Duration::from_secs(10);

/// The query by which a node tells its questions to itself from those of others.
pub(crate) const OWN_QUESTION: &str = "own";

/// What is known of it.
#[derive(Debug)]
pub(crate) struct Reach {
    started: Instant,
    /// When somebody else last asked for anything, in milliseconds since the start.
    asked: AtomicU64,
    /// The nodes that balancers could not connect to, and when they last said so.
    unreachable: Mutex<BTreeMap<NodeId, Instant>>,
    /// Whether other nodes say so of this one.
    is_missed: AtomicBool,
}

impl Reach {
    pub(crate) fn new(now: Instant) -> Self {
        let (asked, unreachable, is_missed) = Default::default();
        Self { started: now, asked, unreachable, is_missed }
    }

    /// A request has come with this query.
    pub(crate) fn asked(&self, query: Option<&str>, now: Instant) {
        if query != Some(OWN_QUESTION) {
            self.asked.store(self.millis(now), Ordering::Relaxed);
        }
    }

    /// A balancer could not connect to `node`, which beats.
    pub(crate) fn cannot_connect(&self, node: &NodeId, now: Instant) {
        self.unreachable.lock().insert(node.clone(), now);
    }

    /// The nodes of which this was said lately.
    pub(crate) fn unreachable(&self, now: Instant) -> Vec<String> {
        let mut unreachable = self.unreachable.lock();
        unreachable.retain(|_, told| now.saturating_duration_since(*told) < TOLD);
        unreachable.keys().map(|node| node.as_str().to_owned()).collect()
    }

    /// Takes what the others say of this node, which is called `own`, beside their leases.
    pub(crate) fn learn<'a>(&self, own: &NodeId, mut beating: impl Iterator<Item = &'a Lease>) {
        #[derive(Deserialize)]
        struct Reported {
            #[serde(default)]
            unreachable: Vec<String>,
        }
        let misses = |lease: &Lease| {
            let reported = serde_json::from_str(&lease.report);
            reported.is_ok_and(|Reported { unreachable }| unreachable.iter().any(|node| node == own.as_str()))
        };
        self.is_missed.store(beating.any(misses), Ordering::Relaxed);
    }

    /// Whether somebody reaches this node, as far as it can know.
    pub(crate) fn is_reached(&self, now: Instant) -> bool {
        let unasked = self.millis(now).saturating_sub(self.asked.load(Ordering::Relaxed));
        !self.is_missed.load(Ordering::Relaxed) || u128::from(unasked) < UNASKED_MAX.as_millis()
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::LeaseId;
    use ctedge_wire::NodeStatus;

    fn lease(report: &str) -> Lease {
        let (id, address) = (LeaseId::new(NodeId::new("other"), 1), ([127, 0, 0, 1], 1).into());
        Lease { id, address, beat: 0, status: NodeStatus::Ready, ended: None, report: report.to_owned() }
    }

    #[test]
    fn a_node_is_out_of_reach_when_others_say_so_and_nobody_asks_it_for_anything() {
        let start = Instant::now();
        let (reach, own) = (Reach::new(start), NodeId::new("node-1"));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(reach.is_reached(after(60)), "nobody misses it");
        reach.learn(&own, [lease("{}"), lease(r#"{"unreachable":["node-2","node-1"]}"#)].iter());
        assert!(!reach.is_reached(after(60)));
        reach.asked(Some("own"), after(60));
        assert!(!reach.is_reached(after(60)), "its own question says nothing");
        reach.asked(None, after(60));
        assert!(reach.is_reached(after(69)), "somebody reaches it");
        assert!(!reach.is_reached(after(70)));
        reach.learn(&own, [lease(r#"{"unreachable":["node-2"]}"#), lease("")].iter());
        assert!(reach.is_reached(after(99)));
    }

    #[test]
    fn what_balancers_could_not_reach_is_told_for_a_while() {
        let start = Instant::now();
        let reach = Reach::new(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        reach.cannot_connect(&NodeId::new("node-1"), after(0));
        reach.cannot_connect(&NodeId::new("node-2"), after(5));
        assert_eq!(reach.unreachable(after(9)), ["node-1", "node-2"]);
        assert_eq!(reach.unreachable(after(12)), ["node-2"]);
        assert!(reach.unreachable(after(15)).is_empty());
    }
}
