//! What the store keeps of nodes and sessions, as far as ownership goes.

use std::net::SocketAddr;

use bytes::Bytes;
use ctedge_wire::{Key, NodeStatus};

use crate::drain::HandoffReason;
use crate::id::{Epoch, LeaseId};

/// A node process as the store knows it.
///
/// No wall clock takes part. Whoever reads leases calls one *silent* when its beat has not changed for a time on the
/// reader's own clock. *Ended* is the store's word, and final: an ended lease never beats again and writes nothing.
/// A lease that the store does not know at all is ended too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Which process.
    pub id: LeaseId,
    /// Where the node listens: other nodes probe it there, balancers are redirected there, and placement ranks by it.
    pub address: SocketAddr,
    /// Rises with each heartbeat.
    pub beat: u64,
    /// What the node takes.
    pub status: NodeStatus,
    /// Why the lease is over, if it is.
    pub ended: Option<LeaseEnd>,
    /// What the node says of itself, JSON for others to read. Nothing in here looks into it.
    pub report: String,
}

/// Why a lease is over. The first one to end it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeaseEnd {
    /// Its node left by itself.
    Left,
    /// Whoever started its process saw that end.
    Exited,
    /// It did not beat, and its node answered no probe.
    Silent,
    /// Another process has its node's address.
    Replaced,
    /// Nobody knows any more.
    Unknown,
}

impl LeaseEnd {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Left, Self::Exited, Self::Silent, Self::Replaced, Self::Unknown];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Exited => "exited",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::Unknown => "unknown",
        }
    }
}

/// Who owns a key, by the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// The key.
    pub key: Key,
    /// Its owner.
    pub owner: LeaseId,
    /// Since when, in the store's own count.
    pub epoch: Epoch,
    /// Why the owner's lease is over, if it is, so that the key may be taken over. One that is not known any more is.
    pub owner_ended: Option<LeaseEnd>,
    /// Where the owner listens, unless its lease is not known any more.
    pub owner_address: Option<SocketAddr>,
    /// Whether an estate lies there: a handoff that its target has not taken up yet.
    pub has_estate: bool,
}

/// A peer of a session as the store keeps it, for a takeover. Opaque here except for its order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredPeer {
    /// The room clock of the peer's token: it tells the peers of one session apart.
    pub clock: u64,
    /// Whether it is the session's host.
    pub host: bool,
    /// The user, as JSON.
    pub user: String,
    /// What the peer said of itself when it joined.
    pub handshake: Bytes,
}

/// Everything that the store knows of a session besides its owner: what a next owner starts from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Legacy {
    /// What the last owner handed off, complete. Where it is there, the rest is only of use after another crash.
    pub estate: Option<Bytes>,
    /// Why it was handed off, where there is an estate.
    pub given: Option<HandoffReason>,
    /// The peers, ordered by clock.
    pub peers: Vec<StoredPeer>,
    /// The requests between peers that were not answered yet.
    pub in_flight: Option<Bytes>,
}
