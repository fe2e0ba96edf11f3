//! How long the protocol waits for what, and how much it holds at most.

use std::time::Duration;

/// The times and bounds of one node. All nodes of a cluster must agree on `lost_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnershipSettings {
    /// How often the node beats.
    pub beat_every: Duration,
    /// How old its last beat may be before a node stops serving to make sure of its lease, and for how long others must
    /// see no beat before they call it silent.
    pub lost_after: Duration,
    /// Within what time a silent node must answer a probe.
    pub probe_timeout: Duration,
    /// How long a request waits for a verdict at most.
    pub ask_wait_max: Duration,
    /// How many requests may wait for a verdict at the same time, and about how many keys the store may be asked for them,
    /// those included that nobody waits for any more.
    pub asks_max: usize,
    /// How many sessions are begun to be handed off in a second.
    pub handoffs_per_second: u32,
    /// How many sessions are being handed off at the same time.
    pub moving_max: usize,
    /// How long the store may fail to give a session away until the session goes on where it is. A store that cannot be reached
    /// is waited for: it could not keep the session either.
    pub handoff_time_max: Duration,
    /// How long a session for which it failed goes on until its next turn, on a node that is not to end.
    pub handoff_pause: Duration,
    /// How long the records of an ended lease wait for somebody to ask for them, in a time in which the store is there.
    pub reap_after: Duration,
}

impl Default for OwnershipSettings {
    fn default() -> Self {
        Self {
            beat_every: Duration::from_secs(1),
            lost_after: Duration::from_secs(3),
            probe_timeout: Duration::from_secs(1),
            ask_wait_max: Duration::from_secs(10),
            asks_max: 10_000,
            handoffs_per_second: 50,
            moving_max: 64,
            // As long as whoever comes meanwhile waits.
            handoff_time_max: Duration::from_secs(10),
            handoff_pause: Duration::from_secs(30),
            // The grace period of 30 s, within which peers may come back, and as much again.
            reap_after: Duration::from_secs(60),
        }
    }
}
