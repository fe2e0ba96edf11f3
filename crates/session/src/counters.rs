//! What a session relayed, and what it dropped.

/// What a session relayed, and what it dropped. [`crate::Session::take_counters`] gives them and starts anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages received of peers.
    pub received: u64,
    /// Messages put into outboxes, those of the server included.
    pub delivered: u64,
    /// Bytes of those.
    pub delivered_bytes: u64,
    /// Requests that the server answered itself, with an error.
    pub requests_failed: u64,
    /// Dropped: bytes that are no message.
    pub malformed: u64,
    /// Dropped: messages over the bound of their size.
    pub too_large: u64,
    /// Dropped: messages of an incompatible protocol version, or of none.
    pub incompatible: u64,
    /// Dropped: messages between peers that are not encrypted.
    pub unencrypted: u64,
    /// Dropped: responses to no request, or not of the peer that was asked.
    pub stray_responses: u64,
    /// Dropped: notifications whose target is not a peer of the session.
    pub unknown_targets: u64,
    /// Not delivered to one receiver: broadcasts without a key for it.
    pub keys_missing: u64,
    /// Dropped: messages of a kind or to the server that it does not know.
    pub unknown: u64,
}
