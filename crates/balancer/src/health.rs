//! Asks every node how it is, again and again.
//!
//! Each node has a task of its own with a jittered interval, so that many balancers do not ask at once. The body of
//! the answer is read: a node of ours tells its state and load in it; any other server's 2xx means ready. What the
//! answers mean is decided in [`ctedge_routing::health`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_routing::{Node, NodeState};
use ctedge_wire::HealthReport;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::client::{Reply, request};
use crate::request::random;
use crate::shared::Shared;
use crate::stop::Phase;

/// A node that is down is asked more often by this factor, so that it is found soon after it comes up.
const DOWN_FASTER: u32 = 4;

/// The shortest time between two questions.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// The tasks that ask.
#[derive(Default)]
pub(crate) struct Checks(Mutex<HashMap<usize, AbortHandle>>);

impl Checks {
    /// Begins to ask nodes that are not asked yet. Must be called on a runtime, after every change of the list.
    pub(crate) fn begin(&self, shared: &Arc<Shared>) {
        let mut tasks = self.0.lock();
        tasks.retain(|_, task| !task.is_finished());
        for node in shared.router.nodes().iter() {
            tasks.entry(Arc::as_ptr(node) as usize).or_insert_with(|| {
                tokio::spawn(check_until_forgotten(Arc::clone(shared), Arc::clone(node))).abort_handle()
            });
        }
    }

    /// Asks no more.
    pub(crate) fn end(&self) {
        for (_, task) in self.0.lock().drain() {
            task.abort();
        }
    }
}

/// Asks every node once, all at the same time, so that a balancer that starts knows them.
pub(crate) async fn check_all(shared: &Arc<Shared>) {
    let mut checks = tokio::task::JoinSet::new();
    for node in shared.router.nodes().iter() {
        let (shared, node) = (Arc::clone(shared), Arc::clone(node));
        checks.spawn(async move { check(&shared, &node).await });
    }
    checks.join_all().await;
}

async fn check_until_forgotten(shared: Arc<Shared>, node: Arc<Node>) {
    loop {
        let interval = shared.live.load().settings.health.interval;
        let interval = if node.state() == NodeState::Down { interval / DOWN_FASTER } else { interval };
        sleep(jittered(interval.max(INTERVAL_MIN))).await;
        if !shared.router.nodes().iter().any(|known| Arc::ptr_eq(known, &node)) {
            return;
        }
        check(&shared, &node).await;
    }
}

/// Asks one node and believes what it says.
async fn check(shared: &Shared, node: &Node) {
    let live = shared.live.load_full();
    let health = &live.settings.health;
    let asked = Instant::now();
    let reply = request(node.address(), "GET", &health.path, &[], health.timeout).await;
    let failure = match reply {
        Ok(Reply { status: 200..=299, body }) => {
            return shared.heard_from(node, serde_json::from_slice::<HealthReport>(&body).ok(), asked);
        }
        Ok(Reply { status, .. }) => format!("it answered {status}"),
        Err(error) => error.to_string(),
    };
    shared.note(node, shared.router.check_failed(node, &failure, Instant::now()));
}

/// ±20 %.
fn jittered(interval: Duration) -> Duration {
    let random = random();
    let unit = f64::from(u16::from_le_bytes([random[0], random[1]])) / f64::from(u16::MAX);
    interval.mul_f64(0.8 + 0.4 * unit)
}

/// The body of the balancer's own `/ct-health/`.
#[derive(Serialize)]
struct OwnReport {
    status: &'static str,
    nodes_up: usize,
    nodes: usize,
}

/// What the balancer says of itself, and the status code for whoever reads nothing else.
pub(crate) fn own_report(shared: &Shared) -> (u16, String) {
    let nodes = shared.router.nodes();
    let listed = nodes.iter().filter(|node| node.is_listed());
    let nodes_up = listed.clone().filter(|node| node.state() != NodeState::Down).count();
    let (code, status) = match (shared.stop.phase(), nodes_up) {
        (Phase::Serving | Phase::Retiring, 0) => (503, "no node is up"),
        // Who asks on a connection to a retiring balancer wants to know of the port, which the successor serves.
        (Phase::Serving | Phase::Retiring, _) => (200, "ready"),
        _ => (503, "stopping"),
    };
    let report = OwnReport { status, nodes_up, nodes: listed.count() };
    (code, serde_json::to_string(&report).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jitter_stays_within_a_fifth() {
        for _ in 0..200 {
            let interval = jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(8)..=Duration::from_secs(12)).contains(&interval), "{interval:?}");
        }
    }
}
