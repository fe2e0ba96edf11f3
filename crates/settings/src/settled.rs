//! The settled settings: what the roles receive. Everything in here is complete and valid; nothing is optional that
//! has a default. How a setting is written in the file, and its default, stands in
//! `file.rs`.

mod license;
mod log;
mod metrics;
mod ownership;
mod portal;
mod restart;
mod sign_on;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use ctedge_wire::ClusterSecret;

pub use license::LicenseSettings;
pub use log::{LogFormat, LogLevel, LogRotation, LogSettings};
pub use metrics::{MetricsSettings, StatsdProtocol, StatsdSettings};
pub use ownership::{DRAIN_DEADLINE_MAX, DrainSettings, LeaseSettings};
pub use portal::{GENERATED_USER, Login, Password, PortalLimits, PortalSettings, RegistrySettings};
pub use restart::RestartSettings;
pub use sign_on::{ProviderEndpoints, SignOnSettings};
pub use store::StoreSettings;

/// What `ctedge up` runs on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpSettings {
    /// How many nodes it starts.
    pub nodes: usize,
    /// The port of the first node; 0 takes free ports.
    pub node_base_port: u16,
    /// Which of the listed nodes it starts: those with this address. `None` for an edge of one machine.
    pub machine: Option<IpAddr>,
}

/// Where a balancer listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listeners {
    /// Public plain HTTP. `None` switches it off.
    pub http: Option<SocketAddr>,
    /// Public HTTPS. `None` switches it off.
    pub https: Option<SocketAddr>,
    /// The admin API.
    pub admin: SocketAddr,
}

/// What a balancer needs to run.
#[derive(Debug, Clone)]
pub struct BalancerSettings {
    /// Public plain HTTP. `None` switches it off.
    pub http: Option<SocketAddr>,
    /// Public HTTPS. `None` switches it off.
    pub https: Option<SocketAddr>,
    /// The admin API.
    pub admin: SocketAddr,
    /// The bearer token of the admin API; required where `admin` is not a loopback address.
    pub admin_token: Option<BearerToken>,
    /// Certificates for HTTPS, chosen by SNI; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Whether answers carry `x-ctedge-node`.
    pub expose_node: bool,
    /// The path below which the public URL serves, `""` or `/like/this`. It is removed before a node sees a request.
    pub path_prefix: String,
    /// Networks whose `X-Forwarded-For` and relatives are believed.
    pub trusted_proxies: Vec<Network>,
    /// Threads that serve requests.
    pub threads: usize,
    /// Where the key of a request is looked for.
    pub key: KeySettings,
    /// The nodes, as they stand in the file.
    pub nodes: NodeSource,
    /// How keys are placed.
    pub placement: PlacementSettings,
    /// What the balancer remembers.
    pub pins: PinSettings,
    /// How nodes are watched.
    pub health: HealthSettings,
    /// What one client, and all of them, may take.
    pub limits: BalancerLimits,
    /// How long anything may take.
    pub timeouts: BalancerTimeouts,
    /// Whose nodes new sessions begin on, as long as one of them takes new ones.
    pub region: Option<String>,
    /// The cluster secret.
    pub secret: ClusterSecret,
    /// The logs.
    pub log: LogSettings,
}

/// A bearer token that operators choose. Debug output does not show it, so that it reaches no log with the settings.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// Whether it is long enough to be hard to guess, and can stand in a header.
    pub(crate) fn check(token: &Option<Self>) -> Result<(), String> {
        match token {
            Some(token) if token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("a token has at least 16 characters, all of them printable ASCII without spaces".into())
            }
            _ => Ok(()),
        }
    }
}

impl<T: Into<String>> From<T> for BearerToken {
    fn from(token: T) -> Self {
        Self(token.into())
    }
}

impl Deref for BearerToken {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken(…)")
    }
}

/// A certificate chain and its private key, PEM files. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address of the network.
    pub address: IpAddr,
    /// How many leading bits name the network.
    pub prefix_bits: u8,
}

/// The sources of a key, in the order in which they are tried. An empty name switches a source off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// The request header.
    pub header: String,
    /// The query parameter.
    pub query: String,
    /// Whether the Open Collaboration Protocol's own carriers are read.
    pub protocol: bool,
    /// The cookie, read and set.
    pub cookie: String,
}

/// Where the list of nodes comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSource {
    /// Nodes by address.
    pub fixed: Vec<NodeAddress>,
    /// Names that are resolved again by their records' time to live; each address is a node.
    pub dns: Vec<DnsNodes>,
}

/// A node by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its name in logs, metrics and commands.
    pub id: String,
    /// Where balancers reach it; this is its identity in the placement hash.
    pub address: SocketAddr,
    /// Where it listens when it is started by its id.
    pub listen: SocketAddr,
    /// Its share of the keys relative to other nodes, 1 to 1000.
    pub weight: u16,
}

/// What the nodes weigh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeWeights {
    by_address: HashMap<SocketAddr, u16>,
    /// Of nodes by name, whose addresses nobody lists.
    by_port: HashMap<u16, u16>,
}

impl NodeWeights {
    /// The weights of these nodes.
    #[must_use]
    pub fn new(nodes: &NodeSource) -> Self {
        Self {
            by_address: nodes.fixed.iter().map(|node| (node.address, node.weight)).collect(),
            by_port: nodes.dns.iter().map(|nodes| (nodes.port, nodes.weight)).collect(),
        }
    }

    /// The weight of the node at `address`, 1 to 1000.
    #[must_use]
    pub fn of(&self, address: SocketAddr) -> u16 {
        let weight = self.by_address.get(&address).or_else(|| self.by_port.get(&address.port()));
        weight.copied().unwrap_or(WEIGHT_DEFAULT)
    }
}

/// The weight of a node of which none is written.
pub(crate) const WEIGHT_DEFAULT: u16 = 100;

/// Nodes by name. The id of such a node is its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsNodes {
    /// A host name with A or AAAA records.
    pub name: String,
    /// The port of every node behind the name.
    pub port: u16,
    /// Their weight, 1 to 1000.
    pub weight: u16,
}

/// The hash that places keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacementAlgorithm {
    /// Highest random weight, keyed with the cluster secret.
    Rendezvous,
    /// The consistent hash that Pingora ships.
    Ketama,
}

/// How keys are placed.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementSettings {
    /// The hash.
    pub algorithm: PlacementAlgorithm,
    /// ε of the load bound: a node with more than (1 + ε) × its fair share of sessions gets no new key. Above 0.
    pub load_bound: f64,
}

/// The bounded memory of where keys live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinSettings {
    /// How many pins are kept.
    pub count_max: usize,
    /// How long a key that nobody uses stays pinned.
    pub idle_max: Duration,
}

/// How nodes are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSettings {
    /// The path asked for; `/ct-health/` on our nodes.
    pub path: String,
    /// Time between two checks of one node; each is jittered by ±20 %.
    pub interval: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// How many checks in a row must succeed to bring a node up.
    pub rise: u32,
    /// How many must fail to take it down.
    pub fall: u32,
}

/// What one client, and all of them, may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerLimits {
    /// Open client connections.
    pub connections_max: usize,
    /// Open connections of one client address.
    pub connections_per_address_max: usize,
    /// Open tunnels (WebSockets).
    pub tunnels_max: usize,
    /// Bytes of a request's head.
    pub header_bytes_max: usize,
    /// Bytes of a request's body.
    pub body_bytes_max: u64,
}

/// How long anything may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerTimeouts {
    /// From the first byte of a request's head to its end.
    pub header: Duration,
    /// Between two requests of a client connection.
    pub keep_alive: Duration,
    /// Between two reads of a request's body.
    pub body: Duration,
    /// Connecting to a node.
    pub connect: Duration,
    /// From a request to a node's answer; above the protocol's long poll of 30 s.
    pub response: Duration,
    /// How long a tunnel may be idle in both directions.
    pub tunnel_idle: Duration,
    /// How long a client's machine may acknowledge nothing of what it is sent.
    pub unacknowledged: Duration,
    /// How long a balancer that was replaced keeps its tunnels.
    pub retire: Duration,
    /// From the signal to stop until what still runs is cut.
    pub stop: Duration,
}

/// What a node needs to run.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its name in logs, metrics and commands.
    pub id: String,
    /// Tells this start of the node from every other one. `None` draws a number.
    pub incarnation: Option<u64>,
    /// Whether it says in the log what the license is worth. A supervisor says it for all of its nodes.
    pub says_license: bool,
    /// Where it listens: a private address.
    pub listen: SocketAddr,
    /// Where balancers and other nodes reach it, which is its identity among them. `None` is where it listens.
    pub address: Option<SocketAddr>,
    /// Threads that relay.
    pub threads: usize,
    /// Who runs this server, as `/api/meta` says it.
    pub owner: String,
    /// Whether the form login (`/api/login/simple`) is on.
    pub simple_login: bool,
    /// The provider that people sign on with. `None` where there is none.
    pub sign_on: Option<SignOnSettings>,
    /// Where the node is, as it tells balancers.
    pub region: Option<String>,
    /// Origins that browsers may call from; empty allows all.
    pub cors_origins: Vec<String>,
    /// The cluster secret.
    pub secret: ClusterSecret,
    /// The bounds of what it holds.
    pub limits: NodeLimits,
    /// How long anything may take.
    pub timeouts: NodeTimeouts,
    /// What it shares with other nodes. `None` where it shares nothing.
    pub store: Option<StoreSettings>,
    /// The zone in which days are counted, and the usage log.
    pub log: LogSettings,
    /// How it tells other nodes that it lives.
    pub lease: LeaseSettings,
    /// How it gives its sessions up.
    pub drain: DrainSettings,
    /// What the nodes weigh that it gives its sessions to.
    pub weights: NodeWeights,
    /// How often a balancer looks at it.
    pub watched_every: Duration,
    /// Where it remembers that it is suspended. `None` remembers nothing.
    pub suspension: Option<PathBuf>,
    /// Where the license is, and what it is held against.
    pub license: LicenseSettings,
    /// Where figures go.
    pub metrics: MetricsSettings,
}

/// The bounds of what a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLimits {
    /// Sessions.
    pub sessions_max: usize,
    /// Peers of one session.
    pub peers_per_session_max: usize,
    /// Transport connections.
    pub connections_max: usize,
    /// Bytes of one message of a peer.
    pub message_bytes_max: usize,
    /// Bytes kept for one peer until their receipt is proven.
    pub outbox_bytes_max: usize,
    /// Requests of one session that wait for a response.
    pub requests_in_flight_max: usize,
    /// Logins and join requests that wait for a decision.
    pub pending_max: usize,
    /// Transport connections that begin in one second; further ones wait.
    pub handshakes_per_second: u32,
}

/// How long anything on a node may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTimeouts {
    /// How long a peer without a transport stays a peer.
    pub grace: Duration,
    /// How long a request between peers waits for its response.
    pub request: Duration,
    /// How long a login or a join request waits for a decision.
    pub decision: Duration,
    /// How long one poll waits before it answers 204.
    pub poll: Duration,
    /// Engine.IO: time between two pings.
    pub ping_interval: Duration,
    /// Engine.IO: how long a pong may take.
    pub ping_timeout: Duration,
    /// From the signal to stop until what still runs is cut.
    pub stop: Duration,
}
