//! A balancer from its ports to its end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_logs::{AccessLog, Rotation, Zone};
use ctedge_settings::{BalancerSettings, LogSettings};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::handle::{Handle, SettingsSource};
use crate::leaving;
use crate::listeners::{Port, spawn_thread};
use crate::membership::Membership;
use crate::metrics::Metrics;
use crate::reload::Reloader;
use crate::shared::Shared;
use crate::stop::Phase;
use crate::tls::{CertificateError, Certificates, Loaded};
use crate::{admin, health};

/// Connections that wait to be accepted; the kernel's own bound (`somaxconn`) is usually the same.
const BACKLOG: i32 = 4096;

/// How often idle pins and nodes without any use are looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);

/// How often certificate files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);

/// How often the end looks whether anything is still open.
const END_INTERVAL: Duration = Duration::from_millis(20);

/// How long tunnels have for their goodbyes, and answers for their last bytes, when the time to stop is over.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(1500);

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

/// Sockets that listen already, in the place of those that a balancer would bind itself. They outlive it where others hold
/// them too.
#[derive(Debug, Default)]
pub struct Listening {
    /// Public plain HTTP.
    pub http: Option<TcpListener>,
    /// Public HTTPS.
    pub https: Option<TcpListener>,
    /// The admin API.
    pub admin: Option<TcpListener>,
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
        source: io::Error,
    },
    /// HTTPS cannot be served.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The access log cannot be opened; the reason names the setting and the file.
    #[error(transparent)]
    AccessLog(io::Error),
    /// Two metrics have one name, which is a mistake of ours.
    #[error("cannot set the metrics up: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Why a balancer ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread that serves requests could not be started.
    #[error("cannot start a thread that serves requests: {0}")]
    Thread(io::Error),
    /// The admin API could not be started.
    #[error("cannot serve the admin API: {0}")]
    Admin(io::Error),
    /// A thread that serves requests has ended.
    #[error("a thread that serves requests has ended")]
    ThreadEnded,
}

/// A balancer whose ports are taken and which serves as soon as [`Balancer::run`] is called.
pub struct Balancer {
    addresses: Addresses,
    ports: Vec<Port>,
    admin: TcpListener,
    membership: Arc<Membership>,
    handle: Handle,
}

impl Balancer {
    /// Takes the ports, reads certificates and opens the access log.
    pub fn bind(settings: BalancerSettings, source: Arc<dyn SettingsSource>) -> Result<Self, BindError> {
        Self::bind_on(Listening::default(), settings, source)
    }

    /// As [`Self::bind`], with sockets that listen already.
    pub fn bind_on(
        listening: Listening,
        settings: BalancerSettings,
        source: Arc<dyn SettingsSource>,
    ) -> Result<Self, BindError> {
        let certificates = match settings.https {
            Some(_) => Some(Arc::new(Certificates::new(Loaded::read(&settings.certificates)?))),
            None => None,
        };
        let mut ports = Vec::new();
        let mut addresses = Addresses { http: None, https: None, admin: settings.admin };
        if let Some(address) = settings.http {
            let listener = given(listening.http).unwrap_or_else(|| listen(address, "public HTTP"))?;
            addresses.http = listener.local_addr().ok();
            ports.push(Port { listener, acceptor: None });
        }
        if let (Some(address), Some(certificates)) = (settings.https, &certificates) {
            let listener = given(listening.https).unwrap_or_else(|| listen(address, "public HTTPS"))?;
            addresses.https = listener.local_addr().ok();
            ports.push(Port { listener, acceptor: Some(Arc::new(certificates.acceptor()?)) });
        }
        let admin = given(listening.admin).unwrap_or_else(|| listen(settings.admin, "admin API"))?;
        addresses.admin = admin.local_addr().unwrap_or(settings.admin);
        let access_log = open_access_log(&settings.log)?;
        let shared = Arc::new(Shared::new(settings, Metrics::new()?, access_log, certificates));
        let membership = Membership::new(Arc::clone(&shared));
        let reloader = Arc::new(Reloader::new(Arc::clone(&shared), Arc::clone(&membership), source));
        Ok(Self { addresses, ports, admin, membership, handle: Handle { shared, reloader } })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Acts on this balancer while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until `stop` resolves, then ends in order: the nodes send away whoever is here, and nobody new is let in; then
    /// nothing is accepted any more, and what runs is finished; what is left when the stop timeout is over is told goodbye and
    /// cut. After [`Handle::retire`] it ends by itself. Requests run on
    /// threads of the balancer's own; the caller's tokio runtime carries the admin API, health checks and reloads.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        let shared = Arc::clone(&self.handle.shared);
        let nodes = shared.live.load().settings.nodes.clone();
        self.membership.set_source(nodes).await;
        // Who knocks first finds nodes that are known to be up.
        health::check_all(&shared).await;
        let admin = admin::serve(self.admin, self.handle.clone()).map_err(RunError::Admin)?;
        let keeping = tokio::spawn(keep(Arc::clone(&shared), Arc::clone(&self.membership)));
        let (ended, mut all_ended) = mpsc::channel(1);
        let threads = shared.live.load().settings.threads.max(1);
        let threads: Result<Vec<_>, _> =
            (0..threads).map(|number| spawn_thread(number, &shared, &self.ports, ended.clone())).collect();
        drop((ended, self.ports));
        let mut stop = std::pin::pin!(stop);
        let result = match &threads {
            Ok(_) => tokio::select! {
                () = &mut stop => Ok(()),
                within = self.handle.retired() => {
                    // The successor answers the operator.
                    admin.abort();
                    tokio::select! {
                        () = retire(&shared, within) => {}
                        () = stop => {}
                    }
                    Ok(())
                }
                _ = all_ended.recv() => Err(RunError::ThreadEnded),
            },
            Err(_) => Ok(()),
        };
        end(&shared).await;
        // Every thread holds a sender until its end.
        let _ = timeout(GOODBYE_TIME_MAX, all_ended.recv()).await;
        keeping.abort();
        admin.abort();
        self.membership.end().await;
        threads.map_err(RunError::Thread)?;
        result
    }
}

/// Accepts nothing more, and lets what runs go on until it ends or the time is over.
async fn retire(shared: &Shared, within: Duration) {
    shared.stop.enter(Phase::Retiring);
    tracing::info!(
        connections = shared.limits.connections(),
        tunnels = shared.limits.tunnels(),
        ?within,
        "a successor accepts connections from here on; those that are open go on"
    );
    all_closed(shared, within).await;
}

/// Has everybody sent away, lets everything finish that does within the stop timeout, and cuts the rest.
async fn end(shared: &Arc<Shared>) {
    let time_max = shared.live.load().settings.timeouts.stop;
    let goodbye_time_max = GOODBYE_TIME_MAX.min(time_max / 2);
    let (begun, cut_after) = (Instant::now(), time_max.saturating_sub(goodbye_time_max));
    shared.stop.enter(Phase::Leaving);
    tracing::info!(
        connections = shared.limits.connections(),
        tunnels = shared.limits.tunnels(),
        "stopping: whoever is here is sent away, and nobody new is let in"
    );
    leaving::all_left(shared, cut_after / 2).await;
    shared.stop.enter(Phase::Stopping);
    tracing::info!(connections = shared.limits.connections(), "no more connections are accepted");
    if !all_closed(shared, cut_after.saturating_sub(begun.elapsed())).await {
        tracing::info!(
            connections = shared.limits.connections(),
            tunnels = shared.limits.tunnels(),
            "the time to stop is over: what still runs is cut"
        );
        shared.stop.enter(Phase::Cutting);
        all_closed(shared, goodbye_time_max).await;
    }
    shared.stop.enter(Phase::Ended);
}

async fn all_closed(shared: &Shared, time_max: Duration) -> bool {
    let begun = Instant::now();
    while shared.limits.connections() > 0 {
        if begun.elapsed() >= time_max {
            return false;
        }
        sleep(END_INTERVAL).await;
    }
    true
}

/// What must be done from time to time.
async fn keep(shared: Arc<Shared>, membership: Arc<Membership>) {
    let mut expire = interval(EXPIRE_INTERVAL);
    let mut certificates = interval(CERTIFICATE_INTERVAL);
    expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
    certificates.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = expire.tick() => shared.router.expire(Instant::now()),
            () = shared.learned.notified() => membership.check_learned(),
            _ = certificates.tick() => renew_certificates(&shared),
        }
    }
}

/// Reads certificates whose files have changed. Wrong ones change nothing.
fn renew_certificates(shared: &Shared) {
    let Some(certificates) = &shared.certificates else { return };
    let files = &shared.live.load().settings.certificates;
    if certificates.have_changed(files) {
        match Loaded::read(files) {
            Ok(loaded) => {
                certificates.replace(loaded);
                tracing::info!("the certificates were read again");
            }
            Err(error) => tracing::error!(%error, "changed certificates cannot be used; those before stay"),
        }
    }
}

/// A socket that was handed in.
fn given(listener: Option<TcpListener>) -> Option<Result<TcpListener, BindError>> {
    let ready = |listener: TcpListener| {
        let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let nonblocking = listener.set_nonblocking(true);
        nonblocking.map(|()| listener).map_err(|source| BindError::Listen {
            address,
            purpose: "a given socket",
            source,
        })
    };
    listener.map(ready)
}

fn listen(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, BindError> {
    let bound = || {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        // A balancer that starts again takes its port although connections of the one before still linger.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        io::Result::Ok(TcpListener::from(socket))
    };
    bound().map_err(|source| BindError::Listen { address, purpose, source })
}

fn open_access_log(log: &LogSettings) -> Result<Option<AccessLog>, BindError> {
    let Some(path) = &log.access else { return Ok(None) };
    let rotation =
        Rotation { bytes_max: log.rotation.bytes_max, age_max: log.rotation.age_max, kept: log.rotation.kept };
    // The settings have made sure that there is such a zone.
    let zone = Zone::named(&log.time_zone).unwrap_or_default();
    let opened = AccessLog::open(path, rotation, zone);
    opened.map(Some).map_err(BindError::AccessLog)
}
