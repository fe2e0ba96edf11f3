//! Whether anybody reaches this node.
//!
//! A node that beats keeps its sessions, and nobody takes them from it. If something between the machines, a firewall or a
//! route, keeps everybody else from it, it is the one to find out and to give them up. Three things together say so: people look
//! for its sessions at another node, since their balancer does not reach this one, which reads that beside the other's lease;
//! nobody has asked this one for anything for a while, not even for its health; and nobody is here, with a WebSocket or a poll.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::Uri;
use ctedge_ownership::{Lease, NodeId};
use serde::Deserialize;

/// How long nobody may ask for anything, at least. Clients give up 30 s after they were cut: by then the node must have found out,
/// and the next owner must serve them.
const UNASKED_MAX: Duration = Duration::from_secs(5);

/// How long it counts that somebody looked for a session in vain. Clients rest for 5 s at most before they try again.
const MISSED: Duration = Duration::from_secs(20);

/// The query by which a node tells its questions to itself from those of others.
pub(crate) const OWN_QUESTION: &str = "own";

/// Where figures are read.
const METRICS_PATH: &str = "/metrics";

/// What is known of it.
#[derive(Debug)]
pub(crate) struct Reach {
    started: Instant,
    /// In milliseconds.
    unasked_max: AtomicU64,
    /// When somebody else last asked for anything, in milliseconds since the start.
    asked: AtomicU64,
    /// When another node last said that this one is missed, and one more. 0 stands for never.
    missed: AtomicU64,
}

impl Reach {
    /// Balancers look at a node each `watched_every`.
    pub(crate) fn new(watched_every: Duration, now: Instant) -> Self {
        let (unasked_max, asked, missed) = Default::default();
        let reach = Self { started: now, unasked_max, asked, missed };
        reach.watched_every(watched_every);
        reach
    }

    /// From now on balancers look so often.
    pub(crate) fn watched_every(&self, interval: Duration) {
        // One look may fail, and a balancer looks up to a fifth later.
        let unasked_max = UNASKED_MAX.max(interval.saturating_mul(3));
        self.unasked_max.store(u64::try_from(unasked_max.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A request has come. That figures are read says nothing of the way of those who look for sessions.
    pub(crate) fn asked(&self, uri: &Uri, now: Instant) {
        if uri.query() != Some(OWN_QUESTION) && uri.path() != METRICS_PATH {
            self.asked_by_others(now);
        }
    }

    /// Somebody else has come.
    pub(crate) fn asked_by_others(&self, now: Instant) {
        self.asked.store(self.millis(now), Ordering::Relaxed);
    }

    /// Takes what the others say of this node, which is called `own`, beside their leases.
    pub(crate) fn learn<'a>(&self, own: &NodeId, mut beating: impl Iterator<Item = &'a Lease>, now: Instant) {
        #[derive(Deserialize)]
        struct Reported {
            #[serde(default)]
            awaited: Vec<String>,
        }
        let misses = |lease: &Lease| {
            let reported = serde_json::from_str(&lease.report);
            reported.is_ok_and(|Reported { awaited }| awaited.iter().any(|node| node == own.as_str()))
        };
        if beating.any(misses) {
            self.missed.store(self.millis(now) + 1, Ordering::Relaxed);
        }
    }

    /// Whether somebody reaches this node, as far as it can know. So many are `present`.
    pub(crate) fn is_reached(&self, present: usize, now: Instant) -> bool {
        let millis_since = |at: u64| Duration::from_millis(self.millis(now).saturating_sub(at));
        let is_missed = match self.missed.load(Ordering::Relaxed) {
            0 => false,
            missed => millis_since(missed - 1) < MISSED,
        };
        let unasked_max = Duration::from_millis(self.unasked_max.load(Ordering::Relaxed));
        present > 0 || !is_missed || millis_since(self.asked.load(Ordering::Relaxed)) < unasked_max
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX - 1)
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
    fn a_node_is_out_of_reach_when_it_is_missed_and_nobody_asks_it_for_anything() {
        let start = Instant::now();
        let (reach, own) = (Reach::new(Duration::from_secs(1), start), NodeId::new("node-1"));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(reach.is_reached(0, after(60)), "nobody misses it");
        let reports = [lease("{}"), lease(""), lease(r#"{"awaited":["node-2","node-1"]}"#)];
        let missed = |seconds| reach.learn(&own, reports.iter(), after(seconds));
        missed(60);
        assert!(!reach.is_reached(0, after(60)));
        assert!(reach.is_reached(1, after(60)), "a client does");
        reach.asked(&Uri::from_static("/ct-health/?own"), after(60));
        assert!(!reach.is_reached(0, after(60)), "its own question says nothing");
        reach.asked(&Uri::from_static("/metrics"), after(60));
        assert!(!reach.is_reached(0, after(60)), "nor does who reads its figures");
        reach.asked(&Uri::from_static("/ct-health/"), after(60));
        missed(64);
        assert!(reach.is_reached(0, after(64)), "somebody has asked");
        assert!(!reach.is_reached(0, after(65)));
        reach.learn(&own, reports[..2].iter(), after(83));
        assert!(!reach.is_reached(0, after(83)), "who tries again may rest for a moment");
        assert!(reach.is_reached(0, after(84)), "nobody has missed it for long");
    }

    #[test]
    fn a_node_that_is_rarely_looked_at_waits_for_longer() {
        let start = Instant::now();
        let reach = Reach::new(Duration::from_secs(1), start);
        reach.watched_every(Duration::from_secs(60));
        let after = |seconds| start + Duration::from_secs(seconds);
        for (seconds, expected) in [(179, true), (180, false)] {
            reach.learn(&NodeId::new("node-1"), [lease(r#"{"awaited":["node-1"]}"#)].iter(), after(seconds));
            assert_eq!(reach.is_reached(0, after(seconds)), expected);
        }
    }
}
