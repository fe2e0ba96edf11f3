//! How a node holds what it owns, and how it gives it up.

use std::time::Duration;

/// How nodes tell each other that they live. All nodes of a cluster need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How often a node writes into the store that it lives.
    pub beat: Duration,
    /// How long nobody must have seen a beat before others may take the node's sessions, and how old its last beat may
    /// be before the node itself stops to make sure.
    pub lost_after: Duration,
}

/// The longest deadline that a drain may have, by the settings or by its order: ten days.
pub const DRAIN_DEADLINE_MAX: Duration = Duration::from_secs(240 * 3600);

/// How a node gives its sessions up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long a draining node serves its sessions before it hands off what is left, where the order does not say.
    pub deadline: Duration,
    /// How many sessions begin to be handed off in a second.
    pub handoffs_per_second: u32,
    /// How long the connections of a session that is handed off may take to bring what their clients had under way.
    pub close: Duration,
}
