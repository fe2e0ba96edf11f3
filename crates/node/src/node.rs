//! Binding, running and stopping a node.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use ctedge_logs::{UsageLog, Zone};
use ctedge_ownership::{LeaseId, NodeId};
use ctedge_settings::{NodeSettings, StoreSettings};
use ctedge_wire::NodeStatus;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::app::{App, Changeable};
use crate::clock::random_incarnation;
use crate::figures::{self, FigureBoard};
use crate::handle::NodeHandle;
use crate::http;
use crate::hub::Hub;
use crate::lag::Lag;
use crate::lone::LoneDrain;
use crate::metrics::Metrics;
use crate::ownership::{DriverThread, Ending, Journal, Keeper, Order, Owners, Shared};
use crate::pending::PendingTable;
use crate::reach::Reach;
use crate::serve::Server;
use crate::sign_on::SignOn;
use crate::stop::StopSwitch;
use crate::suspension::Suspension;
use crate::transport::Transports;
use crate::usage;

/// TCP connections beyond those of transports and long polls: the balancer's pool, health checks, short requests.
const CONNECTIONS_SPARE: usize = 1024;

/// How often what has ended is removed from tables that nobody happens to look at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// How long the start waits for the store.
const LEASE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How much of the time to stop is for handing sessions over.
const HAND_OVER_SHARE: f64 = 0.8;

/// A node that listens. It serves once it is [`run`](Self::run).
pub struct Node {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    shared: Option<Shared>,
    usage_log: Option<UsageLog>,
    pages: Router,
}

impl Node {
    /// Binds the node's address. Call it within a Tokio runtime of `settings.threads` workers.
    pub async fn bind(settings: NodeSettings) -> anyhow::Result<Self> {
        let bound = TcpListener::bind(settings.listen).await;
        let listener = bound.with_context(|| format!("node {} cannot listen on {}", settings.id, settings.listen))?;
        let address = listener.local_addr().context("the listening socket has no address")?;
        let limits = &settings.limits;
        let http_connections_max = limits.connections_max + 2 * limits.pending_max + CONNECTIONS_SPARE;
        let logins = PendingTable::new(limits.pending_max, settings.timeouts.decision);
        let metrics = Metrics::new();
        let sign_on =
            SignOn::of(&settings).context("cannot sign on with a provider: this machine trusts no certificates")?;
        let reached_at = settings.address.unwrap_or(address);
        let zone = Zone::named(&settings.log.time_zone);
        let zone = zone.with_context(|| format!("there is no time zone {:?}", settings.log.time_zone))?;
        let usage_log = usage::open(&settings.log, zone.clone())?;
        let shared = settings.store.clone().map(|store| share(&settings, store, zone, &metrics));
        let handles = shared.as_ref().map(|shared| (shared.owners.clone(), shared.journal.clone()));
        let changeable = Changeable::new(&settings);
        let suspension = Suspension::at(settings.suspension.clone());
        let reach = Reach::new(settings.watched_every, Instant::now());
        let hub = Hub::new(settings, metrics, handles);
        let app = Arc::new(App {
            address: reached_at,
            listener: on_this_machine(address),
            journal: shared.as_ref().map(|shared| shared.journal.clone()),
            keeper: shared.as_ref().map(|shared| Arc::clone(&shared.keeper)),
            lone: LoneDrain::default(),
            usage: Arc::default(),
            figures: FigureBoard::default(),
            changeable,
            suspension,
            reach,
            transports: Transports::new(Arc::clone(&hub)),
            hub,
            logins,
            sign_on,
            lag: Arc::new(Lag::default()),
            polls: StopSwitch::new(),
            http_connections: Arc::new(Semaphore::new(http_connections_max)),
            http_connections_max,
        });
        Ok(Self { app, listener, address, shared, usage_log, pages: Router::new() })
    }

    /// The bound address: the real port where the settings say 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sessions of the node.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.app.hub
    }

    /// The usage log, to be opened again after its file was moved. `None` if the settings switch it off.
    #[must_use]
    pub fn usage_log(&self) -> Option<UsageLog> {
        self.usage_log.clone()
    }

    /// What others may know of the node and tell it.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        NodeHandle::new(Arc::clone(&self.app))
    }

    /// Serves `pages` beside its own interface. No path of theirs may be one of the node's.
    pub fn mount(&mut self, pages: Router) {
        self.pages = std::mem::take(&mut self.pages).merge(pages);
    }

    /// Serves until `stop` completes, or until a drain is complete that was to end the process. Then refuses new sessions,
    /// hands those that it has to other nodes where ownership is shared, flushes and closes every transport, and
    /// returns, all within `timeouts.stop`.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        let Self { app, listener, address, shared, usage_log, pages } = self;
        let permits = Arc::clone(&app.http_connections);
        let router = http::router(Arc::clone(&app), pages);
        let turned_away = {
            let app = Arc::clone(&app);
            Box::new(move || app.turned_away())
        };
        let server = Server::new(router, permits, app.http_connections_max, app.hub.metrics().clone(), turned_away);
        if app.suspension.is_remembered() {
            let id = &app.settings().id;
            tracing::warn!(node = id, "the node is still suspended; `ctedge resume {id}` lets it take new sessions");
            app.hub.status().change(NodeStatus::Suspended);
            // It may have died in a drain. It is not drained any more, but still to take nothing.
            app.suspension.remember(NodeStatus::Suspended).await;
        }
        let mut driver = shared.map(|shared| DriverThread::start(Arc::clone(&app), shared)).transpose()?;
        await_lease(&app).await;
        // Dropping the set at the end of this function ends the tasks.
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&server).accept(listener));
        tasks.spawn(Arc::clone(&app.hub).run_timers());
        tasks.spawn(Arc::clone(&app.hub).watch_license());
        tasks.spawn(Arc::clone(&app.lag).sample());
        tasks.spawn(usage::run(Arc::clone(&app)));
        if let Some(log) = usage_log {
            tasks.spawn(usage::write(Arc::clone(&app), log));
        }
        tasks.spawn(Arc::clone(&app.hub).write_late());
        tasks.spawn(housekeeping(Arc::clone(&app)));
        if let Some(statsd) = app.settings().metrics.statsd.clone() {
            tasks.spawn(figures::send(Arc::clone(&app), statsd));
        }
        tracing::info!(node = app.settings().id, %address, "the node serves");
        let is_over = async {
            match &mut driver {
                Some(driver) => driver.over().await,
                None => {
                    app.lone.over(&app.hub).await;
                    Ok(Ending::Drained)
                }
            }
        };
        let budget = app.settings().timeouts.stop;
        let mut stopping = Instant::now() + budget;
        let mut ending = Ending::Drained;
        tokio::select! {
            () = stop => {
                stopping = Instant::now() + budget;
                hand_over(&app, budget).await;
            }
            over = is_over => {
                ending = over?;
                stopping = Instant::now() + budget;
            }
            // None of the tasks ends by itself: one that did has panicked.
            Some(ended) = tasks.join_next() => ended.context("a task of the node ended")?,
        }
        say_goodbye(&app, &server, stopping).await;
        if ending == Ending::Drained {
            app.suspension.is_drained().await;
        }
        if let Some(driver) = &mut driver {
            driver.close().await;
        }
        anyhow::ensure!(ending == Ending::Drained, "nobody reached the node at {address}");
        Ok(())
    }
}

/// Where a listener at `address` is reached from its own machine.
fn on_this_machine(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Waits until the node may own sessions, so that it does not say that it is ready before it is. A store that does not
/// answer is not waited for: until it gives a lease, new sessions are refused.
async fn await_lease(app: &App) {
    let Some(owners) = app.hub.owners() else { return };
    if tokio::time::timeout(LEASE_WAIT_MAX, owners.gate().opened()).await.is_err() {
        tracing::warn!("the store gives no lease; until it does, this node takes no sessions");
    }
}

/// What a node shares its ownership with.
fn share(settings: &NodeSettings, store: StoreSettings, zone: Zone, metrics: &Metrics) -> Shared {
    let incarnation = settings.incarnation.unwrap_or_else(random_incarnation);
    let lease = LeaseId::new(NodeId::new(&settings.id), incarnation);
    let keeper = Keeper::new(store, metrics.ownership.clone());
    let journal = Journal::new(Arc::clone(&keeper), lease.clone(), zone);
    let (owners, inbox) = Owners::new(lease);
    Shared { owners, journal, keeper, inbox }
}

/// Gives the sessions to other nodes, as far as that is possible within most of `budget`. The rest is for saying goodbye.
async fn hand_over(app: &App, budget: Duration) {
    let Some(owners) = app.hub.owners() else { return };
    tracing::info!(node = app.settings().id, sessions = app.hub.totals().sessions, "the node hands its sessions over");
    let within = budget.mul_f64(HAND_OVER_SHARE);
    let handing_over = async {
        owners.order(Order::Leave { within }).await;
        owners.finished().await;
    };
    if tokio::time::timeout(within, handing_over).await.is_err() {
        let sessions = app.hub.totals().sessions;
        tracing::warn!(sessions, "there was no time to hand these sessions over; other nodes will take them over");
    }
}

/// Stops in order. Polling transports fetch what they are owed with requests of their own, so the server goes last.
async fn say_goodbye(app: &App, server: &Server, by: Instant) {
    let begun = Instant::now();
    app.hub.status().stop();
    tracing::info!(node = app.settings().id, connections = app.hub.connections().count(), "the node stops");
    if app.hub.owners().is_none() {
        say_sessions_end(app);
    }
    let goodbye = async {
        app.hub.connections().close_all();
        app.polls.stop();
        app.hub.connections().all_closed().await;
        server.close().await;
    };
    let goodbye = async { tokio::join!(goodbye, figures::send_last(app)) };
    if tokio::time::timeout_at(by.into(), goodbye).await.is_err() {
        let connections = app.hub.connections().count();
        tracing::warn!(connections, "the time to stop is over; what is still open is cut");
    }
    if app.hub.owners().is_none() {
        app.hub.audit_stop();
    }
    tracing::info!(node = app.settings().id, took = ?begun.elapsed(), "the node has stopped");
}

/// Of a node without a store. It is counted while somebody can still read the metrics.
fn say_sessions_end(app: &App) {
    let sessions = app.hub.totals().sessions;
    if sessions > 0 {
        app.hub.metrics().ownership.lost_all(sessions, "no_store");
        tracing::warn!(sessions, "these sessions end here: without a store that nodes share (store.url) none can move");
    }
}

async fn housekeeping(app: Arc<App>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let now = Instant::now();
        app.logins.purge(now);
        app.hub.purge_joins(now);
    }
}
