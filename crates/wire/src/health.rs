//! The body of `/ct-health/`: what a node says of itself to the balancer's health checks.

use serde::{Deserialize, Serialize};

/// What a node accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// Everything.
    #[default]
    Ready,
    /// No new sessions: the node serves its own until they are gone, so that it can be stopped without ending one.
    Draining,
    /// No new sessions until the operator resumes the node.
    Suspended,
}

impl NodeStatus {
    /// The word of the wire, of the logs and of the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Suspended => "suspended",
        }
    }
}

/// How a node gets along with the store that it shares with other nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreState {
    /// It answers in time.
    Ok,
    /// It answers, but late.
    Slow,
    /// It does not answer. The node serves what it owns and begins nothing.
    Unreachable,
    /// It takes no more writes.
    Full,
    /// The node has none: what it owns is its own alone.
    #[default]
    None,
}

impl StoreState {
    /// Every state, for metrics that have one series a state.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Slow, Self::Unreachable, Self::Full, Self::None];

    /// The word of the wire, of the logs and of the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Unreachable => "unreachable",
            Self::Full => "full",
            Self::None => "none",
        }
    }
}

/// What a draining node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainPhase {
    /// It serves its sessions until they end by themselves or the deadline comes. It can still be resumed.
    Waiting,
    /// It gives its sessions to other nodes.
    HandingOff,
    /// It has no session left.
    Done,
}

impl DrainPhase {
    /// The word of the wire, of the logs and of the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::HandingOff => "handing-off",
            Self::Done => "done",
        }
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// What the node is doing.
    pub phase: DrainPhase,
    /// Seconds until it begins to give its sessions away; none when it waits for them to end by themselves.
    pub deadline_s: Option<u64>,
    /// Sessions left.
    pub sessions: u64,
    /// Peers left.
    pub peers: u64,
    /// Whether the node's process ends with the drain.
    pub exit: bool,
}

/// What a drain of a node would move, by `GET /ct-control/plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPlan {
    /// Sessions that the node owns.
    pub sessions: u64,
    /// Peers of these sessions, those within their grace period included.
    pub peers: u64,
    /// Who would get them, as the other nodes are at this moment; empty when no other node is ready.
    pub targets: Vec<DrainTarget>,
    /// Whether these sessions end instead of moving, since nodes share no store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends_sessions: bool,
}

/// What one node would get of another's drain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainTarget {
    /// The node's id.
    pub node: String,
    /// Sessions that it would get.
    pub sessions: u64,
    /// Peers of these sessions.
    pub peers: u64,
}

/// The JSON body of a node's `/ct-health/`, always with status 200 while the node serves.
///
/// A server that is not ours (a real CodeTogether container) answers something else; a balancer takes any 2xx of such
/// a server as ready. A node also writes its report beside its lease into the store, for others to sum up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// What the node accepts.
    pub status: NodeStatus,
    /// The node's id.
    pub node: String,
    /// Where the node is, if its operator says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The process id of the node.
    pub pid: u32,
    /// The version of the node's binary.
    pub version: String,
    /// Seconds since the node's start.
    pub uptime_s: u64,
    /// Sessions that the node owns.
    pub sessions: u64,
    /// Peers of these sessions, those within their grace period included.
    pub peers: u64,
    /// Open transport connections.
    pub connections: u64,
    /// How late the event loop runs its timers, in milliseconds, averaged over the last seconds.
    pub lag_ms: f64,
    /// Tells this start of the node's process from every other one.
    #[serde(default)]
    pub incarnation: u64,
    /// How often the node has taken its settings over, its start included: whoever changed them sees when that is done.
    #[serde(default)]
    pub settings_read: u64,
    /// Whether the node shares with others who owns which key, and so redirects: a pin on it is then a cache only.
    #[serde(default)]
    pub shares_ownership: bool,
    /// How the node gets along with the store.
    #[serde(default)]
    pub store: StoreState,
    /// Leases of other nodes that ended because they were silent. A node that was ended so and still answers cannot know it,
    /// if it reaches neither the store nor other nodes; a balancer that reaches both does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<LeaseOver>,
    /// What an operator has to set right, in words: what is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How far the drain has come, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainProgress>,
    /// Different users with an open transport connection.
    #[serde(default)]
    pub users_online: u64,
    /// Different users among the peers of the sessions, those within their grace period included.
    #[serde(default)]
    pub users_in_sessions: u64,
    /// Sessions that began on this node since its start.
    #[serde(default)]
    pub sessions_total: u64,
    /// What the license is worth, by this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<LicenseReport>,
    /// The licensed seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<SeatsReport>,
}

/// One life of a node's process that is over by the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseOver {
    /// The node's id.
    pub node: String,
    /// The start of its process.
    pub incarnation: u64,
}

/// What a license is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseReport {
    /// One word: `valid`, `evaluation`, `expired`, `forged`, `malformed`, `other-locator` or `unverifiable`.
    pub verdict: String,
    /// The same for the operator: what it is, and what to do.
    pub message: String,
    /// Whether new sessions may begin.
    pub allows_sessions: bool,
    /// Whether the operator is to renew it.
    pub ends_soon: bool,
    /// Days that follow this one, of a valid license.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days_left: Option<u32>,
    /// Whom a genuine license was given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licensee: Option<String>,
    /// The last day of a genuine license, like `2027/12/31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
}

/// How many licensed seats there are, and whose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatsReport {
    /// Those of the license, for all nodes together.
    pub licensed: u32,
    /// Those that the node may use without asking.
    pub held: u32,
    /// Those that are taken on the node.
    pub taken: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node of an earlier version says.
    const OLD: &str = r#"{"status":"draining","node":"node-1","pid":7,"version":"0.1.0","uptime_s":3,"sessions":2,"peers":5,"connections":4,"lag_ms":0.5}"#;

    fn report() -> HealthReport {
        HealthReport {
            status: NodeStatus::Draining,
            node: "node-1".into(),
            pid: 7,
            version: "0.1.0".into(),
            uptime_s: 3,
            sessions: 2,
            peers: 5,
            connections: 4,
            lag_ms: 0.5,
            ..HealthReport::default()
        }
    }

    #[test]
    fn the_wire_form_is_stable() {
        let (phase, deadline_s) = (DrainPhase::HandingOff, Some(60));
        let report = HealthReport {
            incarnation: 9,
            settings_read: 2,
            shares_ownership: true,
            store: StoreState::Slow,
            over: vec![LeaseOver { node: "node-2".into(), incarnation: 8 }],
            drain: Some(DrainProgress { phase, deadline_s, sessions: 2, peers: 5, exit: true }),
            users_online: 3,
            users_in_sessions: 4,
            sessions_total: 6,
            seats: Some(SeatsReport { licensed: 25, held: 3, taken: 2 }),
            ..report()
        };
        let added = r#","incarnation":9,"settings_read":2,"shares_ownership":true,"store":"slow","over":[{"node":"node-2","incarnation":8}],"drain":{"phase":"handing-off","deadline_s":60,"sessions":2,"peers":5,"exit":true},"users_online":3,"users_in_sessions":4,"sessions_total":6,"seats":{"licensed":25,"held":3,"taken":2}}"#;
        let json = format!("{}{added}", OLD.trim_end_matches('}'));
        assert_eq!(serde_json::to_string(&report).unwrap(), json);
        assert_eq!(serde_json::from_str::<HealthReport>(&json).unwrap(), report);
    }

    #[test]
    fn a_report_without_the_shared_ownership_is_read_too() {
        assert_eq!(serde_json::from_str::<HealthReport>(OLD).unwrap(), report());
    }

    #[test]
    fn a_state_has_one_word_everywhere() {
        for state in StoreState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for phase in [DrainPhase::Waiting, DrainPhase::HandingOff, DrainPhase::Done] {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
        for status in [NodeStatus::Ready, NodeStatus::Draining, NodeStatus::Suspended] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
