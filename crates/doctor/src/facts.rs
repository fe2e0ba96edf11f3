//! What was found out about a deployment, without a judgement.
//!
//! Whatever was not looked at is `None` or empty, and then gives no finding, or one that says so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ctedge_wire::{HealthReport, LicenseReport};

use crate::finding::Check;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Whether the deployment's settings are known; otherwise only a public URL is.
    pub has_settings: bool,
    /// Whether something of this edge runs on this machine.
    pub is_running: bool,
    /// Whether the nodes of the settings are other servers than ours, like CodeTogether containers.
    pub serves_others: bool,
    /// Whether the settings say that clients do not know the authority of the certificate by themselves.
    pub is_private_certificate: bool,
    /// The ports of this machine.
    pub ports: Vec<PortFact>,
    /// The public URL and what lies behind it.
    pub url: Option<UrlFacts>,
    /// The nodes that the settings list.
    pub nodes: Vec<NodeFact>,
    /// What the nodes share.
    pub store: Option<StoreFacts>,
    /// What the license is worth by the settings of this machine.
    pub license: Option<LicenseReport>,
    /// Reports of nodes that answered through the public URL.
    pub reports: Vec<HealthReport>,
    /// Clocks beside that of this machine.
    pub clocks: Vec<ClockFact>,
    /// Whether something keeps the clock of this machine right, as far as that shows.
    pub is_clock_kept: Option<bool>,
    /// What the user of this command may not look at, and the user who runs the edge may.
    pub denied: Vec<Denied>,
    /// Addresses by which more than one node that lives is entered in the store, with these nodes.
    pub shared_addresses: Vec<(String, Vec<String>)>,
}

/// Something that may not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Whose check it was needed for.
    pub check: Check,
    /// What it is, like `the store /data/ctedge.db`.
    pub what: String,
}

/// A port of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFact {
    /// The setting that names it.
    pub setting: String,
    /// The process that is to have it.
    pub process: String,
    /// The address that is listened on.
    pub address: SocketAddr,
    /// Who has it.
    pub state: PortState,
}

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortState {
    /// Nobody.
    Free,
    /// The process of this edge that it is meant for.
    Ours,
    /// Somebody else.
    Foreign,
    /// The address is none of this machine's.
    NotHere,
    /// This user may not listen there.
    Forbidden,
}

/// The public URL and what lies behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct UrlFacts {
    /// The whole URL.
    pub url: String,
    /// Whether it stands in for a public URL that the settings do not name.
    pub is_stand_in: bool,
    /// Its host.
    pub host: String,
    /// Whether it is an `https://` one.
    pub is_https: bool,
    /// The path below which it serves.
    pub prefix: String,
    /// Whether its port can be reached.
    pub reach: Reach,
    /// The certificate that it shows, or would if somebody listened. `None` for plain HTTP, and where there is none to look at.
    pub certificate: Option<Result<CertificateFacts, String>>,
    /// The answer to `GET /api/meta`; `None` where nothing could be asked.
    pub meta: Option<Exchange>,
    /// Whether an answer to that set the stickiness cookie, and whether that was marked as secure.
    pub cookie_secure: Option<bool>,
    /// Whether what a part of the edge counts for itself can be read there.
    pub shows_private_figures: bool,
    /// The answer to the opening of a long poll.
    pub polling: Option<Polling>,
    /// The answer to the opening of a WebSocket.
    pub websocket: Option<WebSocket>,
    /// Whether a WebSocket that carries nothing but the server's pings stays open for so long, or what ended it.
    pub idle: Option<Idle>,
    /// What became of keys, once for each way to carry one.
    pub stickiness: Vec<CarrierFacts>,
    /// What became of a session of two clients.
    pub session: Option<SessionFacts>,
}

/// Whether a port can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Within this time.
    Reached(Duration),
    /// The name has no address.
    Unresolved(String),
    /// Nobody listens.
    Refused,
    /// Nothing comes back.
    TimedOut,
    /// Something else.
    Failed(String),
}

/// A certificate, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The file that it stands in, where nobody shows it yet.
    pub file: Option<String>,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// Whether one of them is the host of the URL.
    pub names_host: bool,
    /// Who issued it.
    pub issuer: String,
    /// Whether it issued itself.
    pub is_self_signed: bool,
    /// How many certificates were sent.
    pub chain_length: usize,
    /// Whether the chain ends at a root that this machine trusts.
    pub trust: Trust,
    /// Seconds until it begins to be valid; negative when it has begun.
    pub begins_in_s: i64,
    /// Seconds until it ends; negative when it has ended.
    pub ends_in_s: i64,
}

/// Where a chain of certificates ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// At a root that this machine trusts.
    Rooted,
    /// At an issuer that this machine does not know.
    UnknownIssuer,
    /// Nowhere, because of this.
    Broken(String),
}

/// An answer, or why there was none.
pub type Exchange = Result<Answer, String>;

/// What matters of an answer over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Who gave it, as it says itself.
    pub server: Option<String>,
    /// The `code` of its body, where that is one of ours.
    pub code: Option<String>,
    /// The message of its body, where that is one of ours.
    pub message: Option<String>,
    /// Where it sends to.
    pub location: Option<String>,
    /// Whether it is what was asked for, in the form that our nodes give it.
    pub is_ours: bool,
}

/// The opening of a long poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polling {
    /// It opened.
    Opened,
    /// It was answered with something else.
    Answered(Answer),
    /// There was no answer.
    Failed(String),
}

/// The opening of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebSocket {
    /// It opened, and the server said hello.
    Opened,
    /// It was answered with something else than 101.
    Answered(Answer),
    /// It opened, and nothing came.
    Silent(String),
    /// There was no answer.
    Failed(String),
}

/// What became of a WebSocket on which nobody says anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idle {
    /// It stayed open for this long.
    Stayed(Duration),
    /// It was ended after this time.
    Ended(Duration, String),
}

/// How a client carries its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// In the header `ctstickiness`, as IDE clients do.
    Header,
    /// In the cookie `ctstickiness`, as browsers do.
    Cookie,
}

/// What became of keys that were carried in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarrierFacts {
    /// The way.
    pub carrier: Carrier,
    /// Each key.
    pub keys: Vec<KeyFacts>,
}

/// What became of a key that two clients used, each more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// How often one client's request came to where the other's had come.
    pub met: u32,
    /// How often not.
    pub missed: u32,
    /// How often a node said to the client that the key is another's.
    pub misdirected: u32,
    /// How often there was no telling, and why.
    pub failed: Vec<String>,
    /// The nodes that answered, where they say who they are.
    pub nodes: BTreeSet<String>,
    /// Whether the node saw the key in the header, as far as it shows.
    pub arrived: Option<bool>,
}

/// What became of a session of two clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionFacts {
    /// It was not tried, because of this.
    Untried(String),
    /// The two met, and one heard the other, after this time.
    Met(Duration),
    /// Something was answered that ends it.
    Refused(Step, Answer),
    /// Something else went wrong.
    Failed(Step, String),
}

/// The steps of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Logging in.
    LogIn,
    /// Creating the session.
    Create,
    /// The host's transport.
    HostConnect,
    /// Asking to join, and being let in.
    Join,
    /// The guest's transport.
    GuestConnect,
    /// Hearing of each other.
    Meet,
}

/// A node of the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFact {
    /// Its name; the address of one that is found by a name.
    pub id: String,
    /// Where balancers reach it.
    pub address: String,
    /// What it says of itself, or why it says nothing.
    pub report: Result<HealthReport, String>,
    /// Whether it has the cluster secret of the settings, as far as it shows.
    pub shares_secret: Option<bool>,
    /// Its state and trouble as a balancer sees it, where one was asked.
    pub seen: Option<(String, Option<String>)>,
}

impl NodeFact {
    /// Whether a server answers that is well, and none of ours: those say who they are.
    #[must_use]
    pub fn is_another_server(&self) -> bool {
        self.report.as_ref().is_ok_and(|report| report.node.is_empty())
    }
}

/// What the nodes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFacts {
    /// Which kind.
    pub kind: StoreKind,
    /// How many nodes use it.
    pub nodes: usize,
    /// On how many hosts these are.
    pub hosts: usize,
}

/// Which kind of store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// None.
    None,
    /// A file.
    Sqlite {
        /// Its path.
        path: String,
        /// The disk below it, where that could be looked at.
        disk: Option<Disk>,
        /// What it answered.
        probe: StoreProbe,
    },
    /// A server.
    Postgres {
        /// Where, without a password.
        place: String,
        /// What it answered.
        probe: StoreProbe,
    },
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name, where it is one that machines share.
    pub network: Option<String>,
    /// Bytes that are free.
    pub free_bytes: u64,
}

/// What a store answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreProbe {
    /// There is none yet; whether one can be made.
    Absent(Result<(), String>),
    /// It answered.
    Answered {
        /// Its schema; 0 where it has no tables yet.
        schema: u64,
        /// The newest schema that this program knows.
        known: u64,
        /// Whether it takes writes.
        writes: Result<(), String>,
        /// How long an answer takes.
        latency: Duration,
    },
    /// It did not.
    Failed(String),
}

/// A clock beside that of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockFact {
    /// Whose.
    pub whose: String,
    /// How far it is ahead of ours; negative when it is behind.
    pub ahead_ms: i64,
    /// By how much that may be wrong.
    pub uncertain_ms: u64,
}
