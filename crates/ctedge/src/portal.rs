//! The pages for people, mounted in a node.

use ctedge_node::{Node, NodeHandle};
use ctedge_portal::{Download, Portal, Surroundings, router};
use ctedge_settings::PortalSettings;
use ctedge_store::Store;
use ctedge_wire::HealthReport;

/// Lets `node` serve the portal too.
pub(crate) fn mount(node: &mut Node, settings: PortalSettings) {
    let portal = Portal::new(settings, Served(node.handle()));
    node.mount(router(portal));
}

/// The node behind the pages.
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

    fn downloaded(&self, download: &Download) {
        self.0.downloaded(download.ide.as_str(), &download.version, &download.artifact);
    }
}
