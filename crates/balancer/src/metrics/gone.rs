//! Forgets what was counted of nodes that are gone: where nodes come and go under ever new names, it would only grow.

use std::collections::HashMap;

use ctedge_routing::Node;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::{Metrics, NO_NODE};

const NODE: &str = "node";

impl Metrics {
    /// Forgets the counts of all nodes but `nodes`, the balancer's own answers excepted. Tells whether there were any: handles
    /// of them that are still held count for nobody from then on.
    pub(crate) fn forget_others<'a>(&self, nodes: impl Iterator<Item = &'a Node>) -> bool {
        let nodes: Vec<&str> = nodes.map(|node| node.id().as_str()).chain([NO_NODE]).collect();
        let forgotten = [
            forget_others(&self.requests, &nodes),
            forget_others(&self.seconds, &nodes),
            forget_others(&self.tunnels_ended, &nodes),
            forget_others(&self.state_changes, &nodes),
        ];
        forgotten.contains(&true)
    }
}

fn forget_others<Builder: MetricVecBuilder>(metrics: &MetricVec<Builder>, nodes: &[&str]) -> bool {
    let mut has_forgotten = false;
    for metric in metrics.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
        let labels: HashMap<&str, &str> =
            metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
        if labels.get(NODE).is_some_and(|node| !nodes.contains(node)) {
            // Somebody else may have removed it.
            has_forgotten |= metrics.remove(&labels).is_ok();
        }
    }
    has_forgotten
}
