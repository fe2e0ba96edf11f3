//! Binding, running and stopping a node.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ctedge_settings::NodeSettings;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::app::App;
use crate::http;
use crate::hub::Hub;
use crate::lag::Lag;
use crate::pending::PendingTable;
use crate::serve::Server;
use crate::stop::StopSwitch;
use crate::transport::Transports;

/// TCP connections beyond those of transports and long polls: the balancer's pool, health checks, short requests.
const CONNECTIONS_SPARE: usize = 1024;

/// How often what has ended is removed from tables that nobody happens to look at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// A node that listens. It serves once it is [`run`](Self::run).
pub struct Node {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
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
        let hub = Hub::new(settings);
        let app = Arc::new(App {
            transports: Transports::new(Arc::clone(&hub)),
            hub,
            logins,
            lag: Arc::new(Lag::default()),
            polls: StopSwitch::new(),
            http_connections: Arc::new(Semaphore::new(http_connections_max)),
            http_connections_max,
        });
        Ok(Self { app, listener, address })
    }

    /// The bound address: the real port where the settings say 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes; then refuses new sessions, flushes and closes every transport, and returns, all
    /// within `timeouts.stop`.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        let Self { app, listener, address } = self;
        let permits = Arc::clone(&app.http_connections);
        let server = Server::new(http::router(Arc::clone(&app)), permits, app.http_connections_max);
        // Dropping the set at the end of this function ends the tasks.
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&server).accept(listener));
        tasks.spawn(Arc::clone(&app.hub).run_timers());
        tasks.spawn(Arc::clone(&app.lag).sample());
        tasks.spawn(housekeeping(Arc::clone(&app)));
        tracing::info!(node = app.settings().id, %address, "the node serves");
        tokio::select! {
            () = stop => {}
            // None of the tasks ends by itself: one that did has panicked.
            Some(ended) = tasks.join_next() => ended.context("a task of the node ended")?,
        }
        say_goodbye(&app, &server).await;
        Ok(())
    }
}

/// Stops in order. Polling transports fetch what they are owed with requests of their own, so the server goes last.
async fn say_goodbye(app: &App, server: &Server) {
    let begun = Instant::now();
    let budget = app.settings().timeouts.stop;
    app.hub.status().stop();
    tracing::info!(node = app.settings().id, connections = app.hub.connections().count(), "the node stops");
    let goodbye = async {
        app.hub.connections().close_all();
        app.polls.stop();
        app.hub.connections().all_closed().await;
        server.close().await;
    };
    if tokio::time::timeout(budget, goodbye).await.is_err() {
        let connections = app.hub.connections().count();
        tracing::warn!(connections, "the time to stop is over; what is still open is cut");
    }
    app.hub.audit_stop();
    tracing::info!(node = app.settings().id, took = ?begun.elapsed(), "the node has stopped");
}

async fn housekeeping(app: Arc<App>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let now = Instant::now();
        app.logins.purge(now);
        app.hub.purge_joins(now);
    }
}
