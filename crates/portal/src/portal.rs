//! What all pages share, and the router of all of them.

use std::sync::Arc;

use axum::Router;
use ctedge_settings::PortalSettings;
use ctedge_store::Store;
use ctedge_wire::HealthReport;

use crate::clients::catalog::Shelf;
use crate::clients::{self, Download};
use crate::dashboard;
use crate::logs;
use crate::versions::{Listed, Published};

/// What the pages know of the node that serves them, and tell it.
pub trait Surroundings: Send + Sync + 'static {
    /// What the node says of itself.
    fn health(&self) -> HealthReport;

    /// The store that the nodes share: none without one, and none before it is open.
    fn store(&self) -> Option<Store>;

    /// Whether this is the token of those who may control the node: then a balancer says so.
    fn is_control_token(&self, given: &[u8]) -> bool;

    /// What the cookies of visitors who have had the right password before are signed with, by all nodes alike.
    fn visitor_key(&self) -> [u8; 32];

    /// Somebody has downloaded a client completely.
    fn downloaded(&self, download: &Download);
}

/// The pages of one node. Cheap to clone.
#[derive(Clone)]
pub struct Portal(Arc<Inner>);

struct Inner {
    settings: PortalSettings,
    surroundings: Box<dyn Surroundings>,
    shelf: Arc<Shelf>,
    published: Published,
}

impl Portal {
    /// Pages with these settings.
    #[must_use]
    pub fn new(settings: PortalSettings, surroundings: impl Surroundings) -> Self {
        let shelf = Shelf::new(settings.clients_folder.clone(), settings.limits.client_files_max);
        let published = Published::new(settings.registry.clone());
        Self(Arc::new(Inner { settings, surroundings: Box::new(surroundings), shelf, published }))
    }

    pub(crate) fn settings(&self) -> &PortalSettings {
        &self.0.settings
    }

    /// What the clients folder offers.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.0.shelf
    }

    /// The versions of this program that are published; none where no registry is set.
    pub async fn versions(&self) -> Option<Listed> {
        self.0.published.list(&self.surroundings().health().version).await
    }

    pub(crate) fn surroundings(&self) -> &dyn Surroundings {
        &*self.0.surroundings
    }
}

/// Where everything of [`router`] is that people see.
pub(crate) const PLACES: [&str; 3] = ["/clients", "/dashboard", "/logs"];

/// Everything that the portal serves, to be mounted beside the interface of a node.
pub fn router(portal: Portal) -> Router {
    Router::new()
        .merge(clients::router(portal.clone()))
        .merge(dashboard::router(portal.clone()))
        .merge(logs::router(portal))
}
