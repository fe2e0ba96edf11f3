//! A node, and room tokens for it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ctedge_node::Node;
use ctedge_node::hub::Hub;
use ctedge_protocol::{RoomClaim, Tokens, User};
use ctedge_settings::{
    DrainSettings, LeaseSettings, LicenseSettings, LogSettings, MetricsSettings, NodeLimits, NodeSettings,
    NodeTimeouts, NodeWeights, StoreSettings, StoreUrl,
};
use ctedge_wire::{ClusterSecret, HealthReport, Key};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Client, PUBLIC_KEY, soon};

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The room clock of every host; guests count on from it.
const HOST_CLOCK: u64 = 1;

pub(crate) struct Room {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Arc<Hub>,
    tokens: Tokens,
    pub(crate) key: Key,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Room {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut NodeSettings)) -> Self {
        let mut settings = settings();
        adjust(&mut settings);
        let tokens = Tokens::new(&settings.secret);
        let node = Node::bind(settings).await.unwrap();
        let (address, hub) = (node.address(), Arc::clone(node.hub()));
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(node.run(async move { drop(stopped.await) }));
        Self { address, hub, tokens, key: Key::parse("room").unwrap(), stop: Some(stop), running }
    }

    /// A node that shares the store in `folder` with others, and is quick to miss one of them. It has its lease.
    pub(crate) async fn sharing(folder: &Path, id: &str) -> Self {
        let room = Self::start_with(|settings| share(settings, folder, id)).await;
        soon(room.hub.gate().opened()).await;
        room
    }

    /// Gives an order to the node, as its operator does; the answer.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> String {
        let token = settings().secret.control_token();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 0\r\nx-ctedge-control: {token}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// Waits until a metric without other labels is as `wanted`. One that is not there is 0.
    pub(crate) async fn until_metric(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        loop {
            let text = self.ask("GET", "/metrics").await;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            if wanted(value.unwrap_or(0)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the node says of itself.
    pub(crate) async fn health(&self) -> HealthReport {
        let answer = self.ask("GET", "/ct-health/").await;
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// The token of the host, whose transport begins the session.
    pub(crate) fn host_token(&self) -> String {
        self.token(HOST_CLOCK, true)
    }

    /// The token of a guest; each `number` is a guest of its own.
    pub(crate) fn guest_token(&self, number: u64) -> String {
        self.token(HOST_CLOCK + number, false)
    }

    fn token(&self, room_clock: u64, host: bool) -> String {
        self.token_of(&self.key, room_clock, host)
    }

    fn token_of(&self, key: &Key, room_clock: u64, host: bool) -> String {
        let user: User = serde_json::from_value(
            json!({"id": format!("user-{room_clock}"), "name": "A user", "authProvider": "test"}),
        )
        .unwrap();
        let claim = RoomClaim { room: key.clone(), room_clock, user, host };
        let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.tokens.sign_room(&claim, unix_now).as_str().to_owned()
    }

    /// A host and a guest on WebSockets, connected, each knowing the other's id.
    pub(crate) async fn pair(&self) -> (Client, Client) {
        let mut host = Client::websocket(self, &self.host_token()).await;
        host.connect("/").await;
        let mut guest = Client::websocket(self, &self.guest_token(1)).await;
        guest.connect("/").await;
        (host, guest)
    }

    /// Asks the node to stop.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(&mut self) {
        tokio::time::timeout(DEADLINE, &mut self.running).await.unwrap().unwrap().unwrap();
    }

    /// The headers of the handshake of another session's host.
    pub(crate) fn headers_of(&self, key: &str) -> String {
        let key = Key::parse(key).unwrap();
        let token = self.token_of(&key, HOST_CLOCK, true);
        format!("host: node\r\nx-oct-jwt: {token}\r\nx-oct-public-key: {PUBLIC_KEY}\r\nctstickiness: {key}\r\n")
    }

    /// The headers of a client's handshake.
    pub(crate) fn headers(&self, token: &str) -> String {
        format!("host: node\r\nx-oct-jwt: {token}\r\nx-oct-public-key: {PUBLIC_KEY}\r\nctstickiness: {}\r\n", self.key)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The store of nodes that share `folder`.
pub(crate) fn store_in(folder: &Path) -> StoreSettings {
    StoreSettings {
        url: StoreUrl::Sqlite(folder.join("ctedge.db")),
        timeout: Duration::from_millis(500),
        connections: 1,
        journal_entries_max: 1000,
        notes: Some(folder.join("notes")),
        audit_days: 1,
        usage_days: 31,
    }
}

/// How long the nodes of the tests are silent before others miss them.
pub(crate) const LOST_AFTER: Duration = Duration::from_millis(600);

/// Lets a node share the store in `folder`.
pub(crate) fn share(settings: &mut NodeSettings, folder: &Path, id: &str) {
    settings.id = id.to_owned();
    settings.store = Some(store_in(folder));
    settings.lease = LeaseSettings { beat: Duration::from_millis(100), lost_after: LOST_AFTER };
}

pub(crate) fn settings() -> NodeSettings {
    NodeSettings {
        id: "node-1".into(),
        incarnation: None,
        says_license: true,
        listen: ([127, 0, 0, 1], 0).into(),
        address: None,
        threads: 1,
        owner: "tests".into(),
        simple_login: true,
        sign_on: None,
        region: None,
        cors_origins: Vec::new(),
        secret: ClusterSecret::new("a secret of the tests with enough bytes").unwrap(),
        limits: NodeLimits {
            sessions_max: 100,
            peers_per_session_max: 10,
            connections_max: 100,
            message_bytes_max: 4 << 20,
            outbox_bytes_max: 16 << 20,
            requests_in_flight_max: 100,
            pending_max: 100,
            handshakes_per_second: 10_000,
        },
        timeouts: NodeTimeouts {
            grace: Duration::from_secs(30),
            request: Duration::from_secs(30),
            decision: Duration::from_secs(300),
            poll: Duration::from_secs(30),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            stop: Duration::from_secs(10),
        },
        lease: LeaseSettings { beat: Duration::from_secs(1), lost_after: Duration::from_secs(3) },
        drain: DrainSettings {
            deadline: Duration::from_secs(600),
            handoffs_per_second: 50,
            close: Duration::from_secs(60),
        },
        weights: NodeWeights::default(),
        watched_every: Duration::from_secs(1),
        suspension: None,
        license: LicenseSettings::default(),
        metrics: MetricsSettings::default(),
        store: None,
        log: LogSettings::default(),
    }
}
