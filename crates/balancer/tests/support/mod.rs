//! Real sockets around a real balancer: backends that answer as a test wants, and clients that see every byte.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part, and a helper that fails fails its test"
)]

pub mod backend;
pub mod client;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ctedge_balancer::{Addresses, Balancer, Handle, SettingsSource};
use ctedge_settings::*;
use ctedge_wire::ClusterSecret;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use backend::{Backend, Reply};
pub use client::{Answer, Client};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A balancer that runs.
pub struct Edge {
    pub addresses: Addresses,
    pub handle: Handle,
    pub source: Arc<Source>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

/// What the next reload finds.
pub struct Source(pub Mutex<Result<BalancerSettings, String>>);

impl SettingsSource for Source {
    fn load(&self) -> Result<BalancerSettings, String> {
        self.0.lock().unwrap().clone()
    }
}

pub fn secret() -> ClusterSecret {
    ClusterSecret::new("a secret of the tests, long enough for it").unwrap()
}

/// Settings with ports of 0, fast checks and the backends as `node-1`, `node-2`, …
pub fn settings(backends: &[&Backend]) -> BalancerSettings {
    BalancerSettings {
        http: Some("127.0.0.1:0".parse().unwrap()),
        https: None,
        admin: "127.0.0.1:0".parse().unwrap(),
        admin_token: None,
        certificates: Vec::new(),
        expose_node: true,
        path_prefix: String::new(),
        trusted_proxies: Vec::new(),
        threads: 2,
        key: KeySettings {
            header: "ctstickiness".into(),
            query: "ctstickiness".into(),
            protocol: true,
            cookie: "ctstickiness".into(),
        },
        nodes: nodes(backends),
        placement: PlacementSettings { algorithm: PlacementAlgorithm::Rendezvous, load_bound: 0.25 },
        pins: PinSettings { count_max: 10_000, idle_max: Duration::from_secs(600) },
        health: HealthSettings {
            path: "/ct-health/".into(),
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 2,
        },
        limits: BalancerLimits {
            connections_max: 1000,
            connections_per_address_max: 1000,
            tunnels_max: 1000,
            header_bytes_max: 32 * 1024,
            body_bytes_max: 1024 * 1024,
        },
        timeouts: BalancerTimeouts {
            header: Duration::from_secs(5),
            keep_alive: Duration::from_secs(30),
            body: Duration::from_secs(5),
            connect: Duration::from_secs(2),
            response: Duration::from_secs(5),
            tunnel_idle: Duration::from_secs(60),
            unacknowledged: Duration::from_secs(120),
            retire: Duration::from_secs(60),
            stop: Duration::from_secs(4),
        },
        region: None,
        secret: secret(),
        log: LogSettings::default(),
    }
}

pub fn nodes(backends: &[&Backend]) -> NodeSource {
    let node = |backend: &&Backend| NodeAddress {
        id: backend.id.clone(),
        address: backend.address,
        listen: backend.address,
        weight: 1,
    };
    NodeSource { fixed: backends.iter().map(node).collect(), dns: Vec::new() }
}

impl Edge {
    pub async fn start(settings: BalancerSettings) -> Self {
        let source = Arc::new(Source(Mutex::new(Ok(settings.clone()))));
        let balancer = Balancer::bind(settings, source.clone()).unwrap();
        let (addresses, handle) = (balancer.addresses(), balancer.handle());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            balancer.run(async { drop(stopped.await) }).await.unwrap();
        });
        let edge = Self { addresses, handle, source, stop: Some(stop), running };
        edge.wait_until_ready().await;
        edge
    }

    /// A balancer in front of so many backends that name the node and the request they got.
    pub async fn with(backends: &[&Backend]) -> Self {
        Self::start(settings(backends)).await
    }

    /// The admin API answers as soon as the nodes were asked once.
    async fn wait_until_ready(&self) {
        let answer = self.admin("GET", "/ct-health/").await;
        assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
    }

    pub fn http(&self) -> SocketAddr {
        self.addresses.http.unwrap()
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.http()).await
    }

    /// One request over a connection of its own.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.client().await.request("GET", path, headers, b"").await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.client().await.request("POST", path, headers, body).await
    }

    pub async fn admin(&self, method: &str, path: &str) -> Answer {
        self.admin_with(method, path, &[("Host", "localhost")]).await
    }

    pub async fn admin_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        Client::connect(self.addresses.admin).await.request(method, path, headers, b"").await
    }

    /// The state of a node, as the admin API shows it.
    pub async fn state_of(&self, id: &str) -> String {
        let status = self.admin("GET", "/status").await.json();
        let nodes = status["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("no {id} in {status}"));
        node["state"].as_str().unwrap().to_owned()
    }

    pub async fn wait_for_state(&self, id: &str, state: &str) {
        until(&format!("{id} is {state}"), async || self.state_of(id).await == state).await;
    }

    /// Begins the end. Await [`Self::ended`] for it.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the balancer ends").unwrap();
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
