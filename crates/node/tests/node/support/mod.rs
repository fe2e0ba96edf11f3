//! A node on a free port, and the smallest client that can ask it anything.

pub(crate) mod log;
pub(crate) mod peer;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ctedge_node::{Node, NodeHandle};
use ctedge_settings::{
    DrainSettings, LeaseSettings, LicenseSettings, LogSettings, MetricsSettings, NodeLimits, NodeSettings,
    NodeTimeouts, NodeWeights, StoreSettings, StoreUrl,
};
use ctedge_wire::ClusterSecret;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A node that runs, until it is dropped or stopped.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    pub(crate) secret: ClusterSecret,
    handle: NodeHandle,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<anyhow::Result<()>>,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A request that is being built.
pub(crate) struct Ask<'a> {
    node: &'a TestNode,
    method: &'a str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// The settings of the tests: the protocol's, with room for little.
pub(crate) fn settings() -> NodeSettings {
    NodeSettings {
        id: "node-1".into(),
        incarnation: None,
        says_license: true,
        listen: ([127, 0, 0, 1], 0).into(),
        address: None,
        threads: 1,
        owner: "The <Testers>".into(),
        simple_login: true,
        sign_on: None,
        region: None,
        cors_origins: Vec::new(),
        secret: ClusterSecret::new("a secret of the tests with enough bytes").unwrap(),
        limits: NodeLimits {
            sessions_max: 100,
            peers_per_session_max: 10,
            connections_max: 100,
            message_bytes_max: 1 << 20,
            outbox_bytes_max: 1 << 20,
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
        store: None,
        log: LogSettings::default(),
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

impl TestNode {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut NodeSettings)) -> Self {
        let mut settings = settings();
        adjust(&mut settings);
        let secret = settings.secret.clone();
        let node = Node::bind(settings).await.unwrap();
        let (address, handle) = (node.address(), node.handle());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(node.run(async move { drop(stopped.await) }));
        Self { address, secret, handle, stop: Some(stop), running }
    }

    /// A node that shares the store in `folder` with others, and is quick to miss one of them.
    pub(crate) async fn sharing(folder: &Path, id: &str) -> Self {
        Self::sharing_with(folder, id, |_| ()).await
    }

    /// The same, with other settings.
    pub(crate) async fn sharing_with(folder: &Path, id: &str, adjust: impl FnOnce(&mut NodeSettings)) -> Self {
        let node = Self::start_with(|settings| {
            settings.id = id.to_owned();
            settings.store = Some(store_in(folder));
            settings.lease = LeaseSettings { beat: Duration::from_millis(100), lost_after: Duration::from_millis(600) };
            adjust(settings);
        })
        .await;
        // The store is open, and the node has its lease.
        let is_sharing = |answer: &Answer| answer.json()["store"] == "ok";
        node.until(|| node.get("/ct-health/"), is_sharing).await;
        node
    }

    /// An operator's order.
    pub(crate) async fn order(&self, order: &str) -> Answer {
        let token = self.secret.control_token();
        self.post(&format!("/ct-control/{order}")).header("x-ctedge-control", &token).send().await
    }

    /// What others in the process may tell the node.
    pub(crate) fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Asks the node to stop. [`Self::stopped`] waits for the end.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stopped(&mut self) {
        tokio::time::timeout(DEADLINE, &mut self.running).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Ask<'_> {
        self.ask("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Ask<'_> {
        self.ask("POST", path)
    }

    pub(crate) fn ask<'a>(&'a self, method: &'a str, path: &str) -> Ask<'a> {
        Ask { node: self, method, path: path.to_owned(), headers: Vec::new(), body: String::new() }
    }

    /// Asks until `wanted` is answered, with the suite's deadline.
    pub(crate) async fn until<'a>(&'a self, ask: impl Fn() -> Ask<'a>, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = ask().send().await;
                if wanted(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("the answer comes in time")
    }

    /// Begins a login and gives its poll token.
    pub(crate) async fn poll_token(&self) -> String {
        self.post("/api/login/initial").send().await.json()["pollToken"].as_str().unwrap().to_owned()
    }

    /// Logs somebody in through the form and gives the login token.
    pub(crate) async fn login(&self, user: &str) -> String {
        self.confirm(&self.poll_token().await, user).await
    }

    /// Sends the form of a login that has begun and gives the login token.
    pub(crate) async fn confirm(&self, token: &str, user: &str) -> String {
        let form = serde_json::json!({"token": token, "user": user, "email": format!("{user}@example.org")});
        assert_eq!(self.post("/api/login/simple").json(&form).send().await.status, 200);
        let answer = self.post(&format!("/api/login/poll/{token}")).send().await;
        answer.json()["loginToken"].as_str().unwrap().to_owned()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Ask<'_> {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The key that a balancer would have placed the request by.
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("ctstickiness", key)
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("x-oct-jwt", token)
    }

    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self.header("content-type", "application/json")
    }

    pub(crate) fn form(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    pub(crate) async fn send(self) -> Answer {
        tokio::time::timeout(DEADLINE, self.exchange()).await.expect("the node answers in time")
    }

    async fn exchange(self) -> Answer {
        let mut stream = TcpStream::connect(self.node.address).await.unwrap();
        let Self { node, method, path, headers, body } = self;
        let has_host = headers.iter().any(|(name, _)| name == "host");
        let host = if has_host { String::new() } else { format!("host: {}\r\n", node.address) };
        let mut head =
            format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // A node that refuses a long body may close before it has read it all.
        let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Answer::parse(&answer)
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status: status.expect("an answer has a status"), headers, body: body.to_owned() }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// Status and `code` of an `Info`.
    #[track_caller]
    pub(crate) fn info(&self) -> (u16, String) {
        let info = self.json();
        assert!(info["params"].is_array() && info["message"].is_string(), "{info}");
        (self.status, info["code"].as_str().unwrap().to_owned())
    }

    /// Status, owner and address of a redirect to an owner.
    pub(crate) fn owner(&self) -> (u16, Option<&str>, Option<&str>) {
        (self.status, self.header("x-ctedge-owner"), self.header("x-ctedge-address"))
    }

    /// The node and epoch that an owner names.
    #[track_caller]
    pub(crate) fn owned(&self) -> (&str, u64) {
        let epoch = self.header("x-ctedge-epoch").and_then(|epoch| epoch.parse().ok());
        (self.header("x-ctedge-node").unwrap_or_else(|| panic!("{self:?}")), epoch.unwrap())
    }

    /// Status and key of a redirect.
    pub(crate) fn redirect(&self) -> (u16, Option<&str>) {
        (self.status, self.header("x-ctedge-key"))
    }
}

/// What an `Info` answer is compared with.
pub(crate) fn info(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
