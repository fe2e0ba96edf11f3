//! What the dashboard knows: the JSON of `/dashboard/api/state`, and the model of its page.
//!
//! Fields may be added; those that are here keep their names and their meaning. A field that is `null` is not known, which
//! is not the same as none. There is no session key in it and nothing else that lets anybody in anywhere.

use ctedge_wire::HealthReport;
use ctedge_wire::health::{LicenseReport, StoreState};
use serde::Serialize;

use crate::versions::Version;

/// Days that figures are shown of, this one included.
pub const DAYS: u64 = 30;

/// The state of everything at one moment.
#[derive(Debug, Clone, Default, Serialize)]
pub struct State {
    /// When, as RFC 3339 writes it, in UTC.
    pub at: String,
    /// The node that says so.
    pub node: String,
    /// The version of that node.
    pub version: String,
    /// What an operator should do something about, the worst first. Empty when all is well.
    pub problems: Vec<Problem>,
    /// How that node gets along with the store.
    pub store: StoreState,
    /// Whether this is of all nodes. `false` where that node has no store, or cannot read it: then it speaks of itself alone.
    pub of_all_nodes: bool,
    /// Why the store, which that node has, could not be read: in words, for people.
    pub store_failure: Option<String>,
    /// All nodes by id, with those that should run and do not.
    pub nodes: Vec<Node>,
    /// Who is there.
    pub users: Users,
    /// What they do.
    pub sessions: Sessions,
    /// The licensed seats.
    pub seats: Option<Seats>,
    /// What the license is worth, by the node that says so.
    pub license: Option<LicenseReport>,
    /// The last [`DAYS`] days that have figures, in order.
    pub days: Option<Vec<Day>>,
    /// Downloads of clients in these days, by editor and version.
    pub downloads: Option<Vec<Download>>,
    /// What hosted and joined in these days, by name.
    pub clients: Option<Vec<Client>>,
    /// The published versions of this program; none where no registry is set.
    pub versions: Option<Versions>,
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// People are refused or cut off.
    Critical,
    /// They will be if nothing is done.
    Warning,
    /// Worth knowing when something else is wrong.
    Note,
}

/// Something that an operator should do something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The node that has it, where it is one node's.
    pub node: Option<String>,
    /// What is the matter.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// What becomes of new sessions on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It takes them.
    Ready,
    /// It takes none, and serves its own until they are gone.
    Draining,
    /// It takes none until it is resumed.
    Suspended,
    /// It does not run: its lease has ended, or it never had one.
    #[default]
    Down,
    /// Nothing is known of it: there is no store that would tell, or it cannot be read.
    Unknown,
}

/// One node.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// What becomes of new sessions on it.
    pub state: NodeState,
    /// Where it listens, by its lease.
    pub address: Option<String>,
    /// Whether the settings of the node that says so list it.
    pub listed: bool,
    /// Whether it was draining when it ended: then somebody stopped it.
    pub stopped: bool,
    /// What it said last of itself. Of a node that is down, that was before.
    pub report: Option<HealthReport>,
}

impl Node {
    /// What it says of itself, if it still says something.
    #[must_use]
    pub fn alive(&self) -> Option<&HealthReport> {
        self.report.as_ref().filter(|_| !matches!(self.state, NodeState::Down | NodeState::Unknown))
    }
}

/// Who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Users {
    /// Different users with an open connection, summed over the nodes that run.
    pub online: u64,
    /// Different users in sessions, summed over the nodes that run.
    pub in_sessions: u64,
    /// Different users that hosted or joined in the last [`DAYS`] days.
    pub unique: Option<u64>,
}

/// What they do.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sessions {
    /// Sessions that nodes serve at this moment.
    pub open: u64,
    /// Their peers, those that are expected back included.
    pub peers: u64,
    /// Open transport connections.
    pub connections: u64,
    /// Sessions that there ever were.
    pub total: Option<u64>,
    /// Peers of a session on average, over all that there ever were.
    pub average_size: Option<f64>,
}

/// The licensed seats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Seats {
    /// Those of the license.
    pub licensed: u64,
    /// Those that people take, over the nodes that run.
    pub taken: u64,
    /// Those that nodes have set aside, for those who take them and for the next to come.
    pub held: u64,
}

/// One day's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Day {
    /// The day, like `2026-11-24`, in the time zone of the logs.
    pub day: String,
    /// Sessions that began.
    pub sessions: u64,
    /// Guests that joined.
    pub joins: u64,
    /// Most sessions at the same time.
    pub sessions_most: u64,
    /// Most users online at the same time.
    pub users_online_most: u64,
    /// Different users that hosted or joined.
    pub users: u64,
    /// Downloads of clients.
    pub downloads: u64,
}

/// Downloads of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Download {
    /// The editor.
    pub ide: String,
    /// The client's version.
    pub version: String,
    /// How often.
    pub downloads: u64,
}

/// How often one client was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// What it calls itself.
    pub name: String,
    /// Sessions that it hosted.
    pub hosted: u64,
    /// Sessions that it joined.
    pub joined: u64,
}

/// The published versions of this program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// The newest first.
    pub published: Vec<Version>,
    /// Why they are not known, if they are not.
    pub problem: Option<String>,
}
