//! The body of `/ct-health/`: what a node says of itself to the balancer's health checks.

use serde::{Deserialize, Serialize};

/// What a node accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// Everything.
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

/// The JSON body of a node's `/ct-health/`, always with status 200 while the node serves.
///
/// A server that is not ours (a real CodeTogether container) answers something else; a balancer takes any 2xx of such
/// a server as ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthReport {
    /// What the node accepts.
    pub status: NodeStatus,
    /// The node's id.
    pub node: String,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_stable() {
        let report = HealthReport {
            status: NodeStatus::Draining,
            node: "node-1".into(),
            pid: 7,
            version: "0.1.0".into(),
            uptime_s: 3,
            sessions: 2,
            peers: 5,
            connections: 4,
            lag_ms: 0.5,
        };
        let json = r#"{"status":"draining","node":"node-1","pid":7,"version":"0.1.0","uptime_s":3,"sessions":2,"peers":5,"connections":4,"lag_ms":0.5}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), json);
        assert_eq!(serde_json::from_str::<HealthReport>(json).unwrap(), report);
    }
}
