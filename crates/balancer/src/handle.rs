//! What the binary may do to a balancer that runs: reload it, and reopen its access log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ctedge_routing::NodeState;
use ctedge_settings::BalancerSettings;

use crate::reload::Reloader;
use crate::shared::Shared;

/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Where a reload takes its settings from. The binary implements it: only the binary reads files and the environment.
pub trait SettingsSource: Send + Sync {
    /// Reads the settings anew. `Err` lists every fault, for a person to read.
    fn load(&self) -> Result<BalancerSettings, String>;
}

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reloaded {
    /// Nodes that were added, by id.
    pub nodes_added: Vec<String>,
    /// Nodes that were removed, by id.
    pub nodes_removed: Vec<String>,
    /// Settings that differ from what runs, but are read only at a start.
    pub needs_restart: Vec<String>,
}

/// A reload that changed nothing, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The settings have faults.
    #[error("{0}")]
    Faults(String),
    /// The balancer is stopping or has stopped.
    #[error("the balancer is stopping")]
    Stopping,
}

/// Acts on a running balancer. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reloader: Arc<Reloader>,
}

impl Handle {
    /// Ends the balancer in favour of a successor that accepts from the same sockets: nothing more is accepted here, and
    /// what is open goes on until it ends, at most for the retire timeout.
    pub fn retire(&self) {
        let within = self.shared.live.load().settings.timeouts.retire;
        self.shared.retire.send_replace(Some(within));
    }

    /// Completes after [`Self::retire`].
    pub(crate) async fn retired(&self) -> Duration {
        let mut retire = self.shared.retire.subscribe();
        match retire.wait_for(Option::is_some).await.map(|within| *within) {
            Ok(Some(within)) => within,
            // The sender lives in what this handle shares.
            _ => std::future::pending().await,
        }
    }

    /// Says who started this balancer: the socket of a supervisor, for operators' commands to find it.
    pub fn supervised_by(&self, control_socket: PathBuf) {
        let _ = self.shared.control_socket.set(control_socket);
    }

    /// Completes when a node takes sessions.
    pub async fn available(&self) {
        while !self.shared.router.nodes().iter().any(|node| node.state() == NodeState::Ready) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads the settings again. Wrong ones change nothing; right ones drop no connection and move no pinned key.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.reloader.reload().await
    }

    /// Opens the access log's file anew, after it was rotated.
    pub fn reopen_access_log(&self) {
        if let Some(log) = &self.shared.access_log {
            log.reopen();
        }
    }
}
