//! What the HTTP handlers of a node share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_protocol::http::{AuthProvider, SIMPLE_LOGIN_PROVIDER};
use ctedge_protocol::{LoginToken, User};
use ctedge_settings::NodeSettings;
use ctedge_wire::HealthReport;

use crate::clock::unix_now;
use crate::hub::Hub;
use crate::lag::Lag;
use crate::metrics::Snapshot;
use crate::pending::PendingTable;
use crate::stop::StopSwitch;
use crate::transport::Transports;

/// How long a login is still answered after its token was handed out: a client whose connection broke in that moment
/// polls once more.
pub(crate) const DELIVERED_LOGIN_KEPT: Duration = Duration::from_secs(10);

/// What the HTTP handlers of a node share.
pub(crate) struct App {
    pub(crate) hub: Arc<Hub>,
    pub(crate) transports: Arc<Transports>,
    /// Logins that wait for their form, or for the client to fetch its token.
    pub(crate) logins: PendingTable<LoginToken>,
    pub(crate) lag: Arc<Lag>,
    /// Ends the long polls.
    pub(crate) polls: StopSwitch,
    pub(crate) http_connections: Arc<tokio::sync::Semaphore>,
    pub(crate) http_connections_max: usize,
}

impl App {
    pub(crate) fn settings(&self) -> &NodeSettings {
        self.hub.settings()
    }

    /// The ways to log in that are switched on.
    pub(crate) fn providers(&self) -> Vec<AuthProvider> {
        if self.settings().simple_login { vec![AuthProvider::simple()] } else { Vec::new() }
    }

    /// Who bears this login token. A login by a way that is switched off is none.
    pub(crate) fn user(&self, login_token: &str) -> Option<User> {
        let user = self.hub.tokens().verify_login(login_token, unix_now()).ok()?;
        let is_switched_off = user.auth_provider == SIMPLE_LOGIN_PROVIDER && !self.settings().simple_login;
        (!is_switched_off).then_some(user)
    }

    /// What the node says of itself to the balancer.
    pub(crate) fn health(&self) -> HealthReport {
        let totals = self.hub.totals();
        let status = self.hub.status();
        HealthReport {
            status: status.current(),
            node: self.settings().id.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: status.uptime_seconds(Instant::now()),
            sessions: totals.sessions as u64,
            peers: totals.peers as u64,
            connections: self.hub.connections().count() as u64,
            lag_ms: self.lag.average_ms(),
            ..HealthReport::default()
        }
    }

    /// The metrics as Prometheus text.
    pub(crate) fn metrics(&self) -> Vec<u8> {
        let totals = self.hub.totals();
        self.hub.metrics().render(&Snapshot {
            sessions: totals.sessions,
            peers: totals.peers,
            connections: self.hub.connections().count(),
            http_connections: self.http_connections_max - self.http_connections.available_permits(),
            outbox_bytes: self.hub.collect(),
            pending_logins: self.logins.len(),
            pending_joins: self.hub.joins().len(),
            lag_seconds: self.lag.average_ms() / 1000.0,
            status: self.hub.status().current().as_str(),
        })
    }
}
