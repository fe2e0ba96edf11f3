//! The pages for people, mounted in a node.

use std::path::Path;
use std::{fs, io};

use ctedge_node::{Node, NodeHandle};
use ctedge_portal::{Download, LivePages, Portal, Surroundings};
use ctedge_settings::{ClusterSecret, PortalSettings};
use ctedge_store::Store;
use ctedge_supervisor::ensure_password;
use ctedge_wire::HealthReport;

/// Lets `node` serve the portal too. The answer gives it other settings.
pub(crate) fn mount(node: &mut Node, settings: PortalSettings) -> Mounted {
    let served = Served(node.handle());
    let pages = LivePages::new(Portal::new(settings.clone(), served.clone()));
    node.mount(pages.router());
    Mounted { served, pages, settings }
}

/// Makes a password for the pages where the settings have none. A node without one serves sessions all the same.
pub(crate) fn ensure_login(settings: &PortalSettings, secret: &ClusterSecret) {
    if let Err(error) = ensure_password(settings, secret) {
        tracing::error!("nobody can see the dashboard and the logs: {error:#}");
    }
}

/// Says of a clients folder that offers nothing why that is. Where none is set there need not be one.
pub(crate) fn warn_of_clients_folder(settings: &PortalSettings, data: &Path) {
    let folder = &settings.clients_folder;
    let is_default = *folder == data.join("clients");
    match fs::read_dir(folder) {
        Err(error) if settings.clients && !(is_default && error.kind() == io::ErrorKind::NotFound) => tracing::warn!(
            target: "server",
            "portal.clients_folder: cannot read {}: {error}; name a folder that the user who runs the edge may read, or make it",
            folder.display()
        ),
        _ => {}
    }
}

/// The pages that a node serves.
pub(crate) struct Mounted {
    served: Served,
    pages: LivePages,
    settings: PortalSettings,
}

impl Mounted {
    /// Serves with these settings from here on.
    pub(crate) fn take_over(&mut self, settings: PortalSettings) {
        if self.settings != settings {
            self.settings = settings;
            self.pages.replace(Portal::new(self.settings.clone(), self.served.clone()));
        }
    }
}

/// The node behind the pages.
#[derive(Clone)]
struct Served(NodeHandle);

impl Surroundings for Served {
    fn health(&self) -> HealthReport {
        self.0.health()
    }

    fn store(&self) -> Option<Store> {
        self.0.store()
    }

    fn is_control_token(&self, given: &[u8]) -> bool {
        self.0.is_control_token(given)
    }

    fn visitor_key(&self) -> [u8; 32] {
        self.0.visitor_key()
    }

    fn downloaded(&self, download: &Download) {
        self.0.downloaded(download.ide.as_str(), &download.version, &download.artifact);
    }
}
