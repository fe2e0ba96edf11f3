//! The bounds of one session.

use std::time::Duration;

/// The bounds of one session. Every table and buffer of it has one here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// Peers, those in their grace period included.
    pub peers_max: usize,
    /// Bytes of one message of a peer.
    pub message_bytes_max: usize,
    /// Bytes kept for one peer until their receipt is proven.
    pub outbox_bytes_max: usize,
    /// Requests that wait for a response.
    pub requests_in_flight_max: usize,
    /// Join requests that wait for the host.
    pub joins_max: usize,
    /// How long a peer without a transport stays a peer.
    pub grace: Duration,
    /// How long a request between peers waits for its response.
    pub request: Duration,
    /// How long a join request waits for the host, and a fresh session for its host's transport.
    pub decision: Duration,
}

impl Default for SessionLimits {
    /// The protocol's times, and bounds that fit a small machine.
    fn default() -> Self {
        Self {
            peers_max: 50,
            message_bytes_max: 16 * 1024 * 1024,
            outbox_bytes_max: 32 * 1024 * 1024,
            requests_in_flight_max: 1000,
            joins_max: 50,
            grace: Duration::from_secs(30),
            request: Duration::from_secs(30),
            decision: Duration::from_secs(300),
        }
    }
}
