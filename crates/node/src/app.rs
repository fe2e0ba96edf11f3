//! What the HTTP handlers of a node share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ctedge_ownership as ownership;
use ctedge_protocol::http::{AuthProvider, SIMPLE_LOGIN_PROVIDER};
use ctedge_protocol::{LoginToken, User};
use ctedge_settings::{BearerToken, LicenseSettings, MetricsSettings, NodeSettings, NodeWeights};
use ctedge_wire::{DrainPhase, DrainProgress, HealthReport, LeaseOver, StoreState};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::clock::unix_now;
use crate::figures::FigureBoard;
use crate::hub::Hub;
use crate::lag::Lag;
use crate::license::{license_report, seats_report};
use crate::lone::LoneDrain;
use crate::metrics::{Snapshot, Waiting};
use crate::ownership::counts::Measured;
use crate::ownership::{Journal, Keeper, Owners, View};
use crate::pending::PendingTable;
use crate::reach::Reach;
use crate::sign_on::SignOn;
use crate::stop::StopSwitch;
use crate::suspension::Suspension;
use crate::transport::Transports;
use crate::usage::UsageCounter;

/// How long a login is still answered after its token was handed out: a client whose connection broke in that moment
/// polls once more.
pub(crate) const DELIVERED_LOGIN_KEPT: Duration = Duration::from_secs(10);

/// What the HTTP handlers of a node share.
pub(crate) struct App {
    pub(crate) hub: Arc<Hub>,
    pub(crate) transports: Arc<Transports>,
    /// Logins that wait for their form, or for the client to fetch its token.
    pub(crate) logins: PendingTable<LoginToken>,
    /// The provider that people sign on with.
    pub(crate) sign_on: Option<SignOn>,
    pub(crate) lag: Arc<Lag>,
    /// Ends the long polls.
    pub(crate) polls: StopSwitch,
    pub(crate) http_connections: Arc<tokio::sync::Semaphore>,
    pub(crate) http_connections_max: usize,
    /// Where balancers and other nodes reach the node.
    pub(crate) address: SocketAddr,
    /// Where the node reaches its own listener.
    pub(crate) listener: SocketAddr,
    /// The store that it shares with them.
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// What was ordered of a node without a store.
    pub(crate) lone: LoneDrain,
    pub(crate) usage: Arc<UsageCounter>,
    pub(crate) figures: FigureBoard,
    pub(crate) changeable: Changeable,
    pub(crate) suspension: Suspension,
    pub(crate) reach: Reach,
    /// Where is written what operators want to know. Nowhere without a store.
    pub(crate) journal: Option<Journal>,
}

/// What other settings change while the node runs.
pub(crate) struct Changeable {
    /// Whether the public may read the figures.
    pub(crate) prometheus: AtomicBool,
    /// What asks for the node's own figures must bear.
    pub(crate) metrics_token: Mutex<Option<BearerToken>>,
    /// Whom it gives how many of its sessions.
    pub(crate) weights: Arc<Mutex<NodeWeights>>,
    /// How often the settings were taken over.
    read: AtomicU64,
}

impl Changeable {
    pub(crate) fn new(settings: &NodeSettings) -> Self {
        Self {
            prometheus: AtomicBool::new(settings.metrics.prometheus),
            metrics_token: Mutex::new(settings.metrics.token.clone()),
            weights: Arc::new(Mutex::new(settings.weights.clone())),
            read: AtomicU64::new(1),
        }
    }
}

impl App {
    /// Takes over what can change while the node runs.
    pub(crate) async fn take_over(
        &self,
        metrics: &MetricsSettings,
        license: LicenseSettings,
        weights: NodeWeights,
        watched_every: Duration,
    ) {
        self.reach.watched_every(watched_every);
        self.changeable.prometheus.store(metrics.prometheus, Ordering::Relaxed);
        self.changeable.metrics_token.lock().clone_from(&metrics.token);
        *self.changeable.weights.lock() = weights;
        if let Some(verdict) = self.hub.licensing().take_over(license).await {
            self.hub.seats.set_licensed(verdict.seats());
        }
        self.changeable.read.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn settings(&self) -> &NodeSettings {
        self.hub.settings()
    }

    /// The ways to log in that are switched on.
    pub(crate) fn providers(&self) -> Vec<AuthProvider> {
        let simple = self.settings().simple_login.then(AuthProvider::simple);
        let sign_on = self.sign_on.as_ref().map(|sign_on| AuthProvider::sign_on(sign_on.provider()));
        sign_on.into_iter().chain(simple).collect()
    }

    /// Who bears this login token. A login by a way that is switched off is none.
    pub(crate) fn user(&self, login_token: &str) -> Option<User> {
        let user = self.hub.tokens().verify_login(login_token, unix_now()).ok()?;
        let is_on = match &*user.auth_provider {
            SIMPLE_LOGIN_PROVIDER => self.settings().simple_login,
            provider => self.sign_on.as_ref().is_some_and(|sign_on| sign_on.provider() == provider),
        };
        is_on.then_some(user)
    }

    /// What the node says of itself to the balancer.
    pub(crate) fn health(&self) -> HealthReport {
        let totals = self.hub.totals();
        let status = self.hub.status();
        let view = self.hub.owners().map(Owners::view);
        let drain = match &view {
            Some(view) => view.drain,
            None => self.lone.progress(totals.sessions),
        };
        let usage = self.usage.last();
        HealthReport {
            status: status.current(),
            node: self.settings().id.clone(),
            region: self.settings().region.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: status.uptime_seconds(Instant::now()),
            sessions: totals.sessions as u64,
            peers: totals.peers as u64,
            connections: self.hub.connections().count() as u64,
            lag_ms: self.lag.average_ms(),
            incarnation: view.as_ref().map_or(0, |view| view.lease.incarnation),
            settings_read: self.changeable.read.load(Ordering::Relaxed),
            shares_ownership: view.is_some(),
            store: view.as_ref().map_or(StoreState::None, |view| view.store),
            over: view.as_ref().map(leases_over).unwrap_or_default(),
            trouble: view.and_then(|view| view.trouble),
            drain: drain.map(|progress| drain_progress(progress, totals.peers)),
            users_online: usage.users_online,
            users_in_sessions: usage.users_in_sessions,
            sessions_total: self.hub.metrics().sessions_created.get(),
            license: Some(license_report(&self.hub.licensing().verdict())),
            seats: Some(seats_report(self.hub.seats())),
        }
    }

    /// Somebody has reached the node, who found no room. Tells whose it is, for the refusal.
    pub(crate) fn turned_away(&self) -> String {
        self.reach.asked_by_others(Instant::now());
        let lease = self.hub.owners().map(|owners| owners.view().lease);
        lease.map(|lease| lease.to_string()).unwrap_or_default()
    }

    /// Whether somebody reaches this node, as far as it can know.
    pub(crate) fn is_reached(&self) -> bool {
        self.reach.is_reached(self.hub.connections().present(), Instant::now())
    }

    /// Whether this is the control token.
    pub(crate) fn is_control_token(&self, given: &[u8]) -> bool {
        given.ct_eq(self.settings().secret.control_token().as_bytes()).into()
    }

    /// The metrics as Prometheus text.
    pub(crate) fn metrics(&self) -> Vec<u8> {
        let totals = self.hub.totals();
        self.hub.metrics().render(&Snapshot {
            sessions: totals.sessions,
            peers: totals.peers,
            connections: self.hub.connections().count(),
            http_connections: self.http_connections_max - self.http_connections.available_permits(),
            kept: self.hub.collect(),
            pending_logins: self.logins.len(),
            pending_joins: self.hub.joins().len(),
            waiting: self.waiting(),
            lag_seconds: self.lag.average_ms() / 1000.0,
            status: self.hub.status().current().as_str(),
            ownership: self.measured(),
            license: (self.hub.licensing().verdict(), self.hub.seats()),
        })
    }

    fn waiting(&self) -> Waiting {
        Waiting {
            handshakes: self.transports.handshakes_waiting(),
            owners: self.hub.owners().map_or(0, |owners| owners.view().waiting),
            seats: self.hub.seats.waiting() as usize,
        }
    }

    fn measured(&self) -> Option<Measured> {
        let (view, keeper) = (self.hub.owners()?.view(), self.keeper.as_ref()?);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (journal, notes) = keeper.health().map(|health| (health.journal, health.notes)).unwrap_or_default();
        let left = view.drain.and_then(|progress| progress.deadline_left);
        Some(Measured {
            store: view.store,
            journal_entries: number(journal.entries),
            journal_written: journal.written,
            journal_lost: journal.lost(),
            notes_bytes: number(notes.bytes),
            notes_dropped: notes.dropped,
            drain_sessions: view.drain.map_or(0, |progress| number(progress.sessions as u64)),
            drain_seconds_left: left.map(|left| number(left.as_secs())),
        })
    }
}

/// The leases that are over, as they go over the wire.
fn leases_over(view: &View) -> Vec<LeaseOver> {
    let over = view.over.iter();
    over.map(|lease| LeaseOver { node: lease.node.as_str().to_owned(), incarnation: lease.incarnation }).collect()
}

/// A drain's progress as it goes over the wire.
fn drain_progress(progress: ownership::DrainProgress, peers: usize) -> DrainProgress {
    let ownership::DrainProgress { drain, deadline_left, sessions, .. } = progress;
    let phase = match deadline_left {
        _ if sessions == 0 => DrainPhase::Done,
        Some(Duration::ZERO) => DrainPhase::HandingOff,
        _ => DrainPhase::Waiting,
    };
    DrainProgress {
        phase,
        deadline_s: deadline_left.map(|left| left.as_secs()),
        sessions: sessions as u64,
        peers: peers as u64,
        exit: drain.exit,
    }
}
