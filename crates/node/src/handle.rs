//! What others in the process may know of a node and tell it: the pages that are mounted beside its interface.

use std::sync::Arc;
use std::time::Duration;

use ctedge_settings::{LicenseSettings, MetricsSettings, NodeWeights};
use ctedge_store::Store;
use ctedge_wire::HealthReport;

use crate::app::App;

/// A node as seen by the pages beside it. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle(Arc<App>);

impl NodeHandle {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    /// What the node says of itself to balancers.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        self.0.health()
    }

    /// Takes over what can change while the node runs: who may read the figures, where the license is, what the nodes weigh,
    /// and how often balancers look. Call it when everything else of these settings is in force: the health report then tells
    /// of one more time that settings were read.
    pub async fn take_over(
        &self,
        metrics: &MetricsSettings,
        license: LicenseSettings,
        weights: NodeWeights,
        watched_every: Duration,
    ) {
        self.0.take_over(metrics, license, weights, watched_every).await;
    }

    /// The shared store: none without one, and none before it is open.
    #[must_use]
    pub fn store(&self) -> Option<Store> {
        self.0.keeper.as_ref()?.store().cloned()
    }

    /// Whether this is the control token, which balancers and operators have.
    #[must_use]
    pub fn is_control_token(&self, given: &[u8]) -> bool {
        self.0.is_control_token(given)
    }

    /// What the cookies of visitors who have had the right password before are signed with, by all nodes alike.
    #[must_use]
    pub fn visitor_key(&self) -> [u8; 32] {
        self.0.settings().secret.visitor_key()
    }

    /// Counts a client that was downloaded completely. `version` must come from a file of the operator, not from a
    /// stranger: it becomes a label of a metric.
    pub fn downloaded(&self, ide: &str, version: &str, artifact: &str) {
        self.0.figures.downloaded(ide);
        self.0.hub.metrics().downloads.with_label_values(&[ide, version]).inc();
        if let Some(journal) = &self.0.journal {
            journal.downloaded(ide, version, artifact);
        }
    }
}
