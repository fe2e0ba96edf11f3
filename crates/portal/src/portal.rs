//! What all pages share, and the router of all of them.

use std::sync::Arc;

use axum::Router;
use ctedge_settings::PortalSettings;
use ctedge_store::Store;
use ctedge_wire::HealthReport;

use crate::clients::{self, Download};

/// What the pages know of the node that serves them, and tell it.
pub trait Surroundings: Send + Sync + 'static {
    /// What the node says of itself.
    fn health(&self) -> HealthReport;

    /// The store that the nodes share: none without one, and none before it is open.
    fn store(&self) -> Option<Store>;

    /// Somebody has downloaded a client completely.
    fn downloaded(&self, download: &Download);
}

/// The pages of one node. Cheap to clone.
#[derive(Clone)]
pub struct Portal(Arc<Inner>);

struct Inner {
    settings: PortalSettings,
    surroundings: Box<dyn Surroundings>,
}

impl Portal {
    /// Pages with these settings.
    #[must_use]
    pub fn new(settings: PortalSettings, surroundings: impl Surroundings) -> Self {
        Self(Arc::new(Inner { settings, surroundings: Box::new(surroundings) }))
    }

    pub(crate) fn settings(&self) -> &PortalSettings {
        &self.0.settings
    }

    #[expect(dead_code, reason = "the pages that ask it are mounted one after the other")]
    pub(crate) fn surroundings(&self) -> &dyn Surroundings {
        &*self.0.surroundings
    }
}

/// Everything that the portal serves, to be mounted beside the interface of a node.
pub fn router(portal: Portal) -> Router {
    Router::new().merge(clients::router(portal))
}
