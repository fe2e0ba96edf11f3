//! Other settings while requests run: wrong ones change nothing, right ones drop no connection and move no pinned key.

use std::sync::Arc;

use ctedge_routing::{Node, NodeChanges};
use ctedge_settings::BalancerSettings;
use tokio::sync::Mutex;

use crate::handle::{ReloadError, Reloaded, SettingsSource};
use crate::membership::Membership;
use crate::placement::Placement;
use crate::shared::{Live, Shared};
use crate::stop::Phase;
use crate::tls::Loaded;

/// Brings other settings into force.
pub(crate) struct Reloader {
    shared: Arc<Shared>,
    membership: Arc<Membership>,
    source: Arc<dyn SettingsSource>,
    /// One reload at a time.
    turn: Mutex<()>,
}

impl Reloader {
    pub(crate) fn new(shared: Arc<Shared>, membership: Arc<Membership>, source: Arc<dyn SettingsSource>) -> Self {
        Self { shared, membership, source, turn: Mutex::new(()) }
    }

    /// Reads the settings again and applies them.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().await;
        let result = self.try_reload().await;
        let word = if result.is_ok() { "applied" } else { "refused" };
        self.shared.metrics.reloads.with_label_values(&[word]).inc();
        match &result {
            Ok(reloaded) => tracing::info!(?reloaded, "the settings were reloaded"),
            Err(error) => tracing::error!(%error, "the settings were not reloaded; what runs goes on"),
        }
        result
    }

    async fn try_reload(&self) -> Result<Reloaded, ReloadError> {
        if self.shared.stop.phase() > Phase::Serving {
            return Err(ReloadError::Stopping);
        }
        let mut settings = self.source.load().map_err(ReloadError::Faults)?;
        let before = self.shared.live.load_full();
        let needs_restart = keep_what_needs_a_restart(&mut settings, &before.settings);
        // Everything that can fail comes before anything that changes.
        let certificates = match &self.shared.certificates {
            Some(_) => {
                Some(Loaded::read(&settings.certificates).map_err(|error| ReloadError::Faults(error.to_string()))?)
            }
            None => None,
        };
        if let (Some(current), Some(loaded)) = (&self.shared.certificates, certificates) {
            current.replace(loaded);
        }
        let live = Live::new(settings);
        self.shared.router.set_settings(&live.router_settings());
        if live.settings.placement.algorithm != before.settings.placement.algorithm {
            // It is empty until the nodes are set below; a request in between waits for its pin or is refused, so that
            // the list is given to it first.
            let placement = Placement::new(live.selection_config());
            self.fill(&placement).await;
            self.shared.placement.store(Arc::new(placement));
        }
        let nodes = live.settings.nodes.clone();
        self.shared.live.store(Arc::new(live));
        let changes = self.membership.set_source(nodes).await;
        self.shared.refresh_targets();
        Ok(reloaded(&changes, needs_restart))
    }

    async fn fill(&self, placement: &Placement) {
        let nodes = self.shared.router.nodes();
        let listed = nodes.iter().filter(|node| node.is_listed());
        let specs: Vec<_> = listed
            .map(|node| ctedge_routing::NodeSpec {
                id: node.id().clone(),
                address: node.address(),
                weight: node.weight(),
            })
            .collect();
        if let Err(error) = placement.set(&specs).await {
            tracing::error!(%error, "the list of nodes could not be placed");
        }
    }
}

fn ids(nodes: &[Arc<Node>]) -> impl Iterator<Item = String> {
    nodes.iter().map(|node| node.id().to_string())
}

/// Takes over what can only change at a start, and names what differs.
fn keep_what_needs_a_restart(settings: &mut BalancerSettings, before: &BalancerSettings) -> Vec<String> {
    let mut differing = Vec::new();
    let mut keep = |differs: bool, name: &str| {
        if differs {
            differing.push(name.to_owned());
        }
    };
    keep(settings.http != before.http, "http");
    keep(settings.https != before.https, "https");
    keep(settings.admin != before.admin, "admin");
    keep(settings.threads != before.threads, "threads");
    keep(settings.log != before.log, "log");
    // The nodes have these from their start on: their links would not lead to a balancer that is ahead of them.
    keep(settings.path_prefix != before.path_prefix, "server_url");
    keep(settings.region != before.region, "region");
    keep(settings.secret.placement_seed() != before.secret.placement_seed(), "secret");
    settings.http = before.http;
    settings.https = before.https;
    settings.admin = before.admin;
    settings.threads = before.threads;
    settings.log.clone_from(&before.log);
    settings.path_prefix.clone_from(&before.path_prefix);
    settings.region.clone_from(&before.region);
    settings.secret = before.secret.clone();
    differing
}

fn reloaded(changes: &NodeChanges, needs_restart: Vec<String>) -> Reloaded {
    Reloaded {
        nodes_added: ids(&changes.added).chain(ids(&changes.returned)).collect(),
        nodes_removed: ids(&changes.removed).collect(),
        needs_restart,
    }
}
