//! What the node asks of its ownership for one request, and what it is told.

use std::net::SocketAddr;
use std::time::Duration;

use ctedge_wire::Key;

use crate::id::{Epoch, LeaseId, NodeId};

/// Names one asking request. The caller draws it and never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A request that needs the owner of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Comes back with the verdict.
    pub ticket: Ticket,
    /// The key.
    pub key: Key,
    /// What the request is about.
    pub wants: Wants,
    /// Nodes that the balancer could not connect to for this request. If the owner is among them, a redirect would not
    /// help: the request waits here until the owner's lease is over, or until the owner has had its chance.
    pub unreachable: Vec<NodeId>,
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wants {
    /// A session that exists.
    Existing,
    /// A session that exists, or else one that may be created anew: a host with a valid room token.
    ExistingOrNew,
    /// A session that does not exist yet.
    New,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This node owns the key since that epoch: serve it. [`crate::Action::Begin`] came before.
    Serve {
        /// Since when.
        epoch: Epoch,
    },
    /// Another node does: answer 421.
    Redirect {
        /// The owner.
        owner: LeaseId,
        /// Since when.
        epoch: Epoch,
        /// Where it listens.
        address: SocketAddr,
    },
    /// There is no such session: answer 404.
    Missing,
    /// There is one already where none was wanted: the key is in use.
    Taken,
    /// Not now: answer 503.
    Unavailable {
        /// When to come back: the `Retry-After`.
        retry_after: Duration,
        /// Why.
        why: Unavailable,
    },
}

/// Why a request cannot be served now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unavailable {
    /// The store gives no answer, and only it knows.
    Store,
    /// The node has no lease at the moment, or does not know whether it has.
    NoLease,
    /// The owner is not over, but nobody reaches it.
    OwnerUnreachable,
    /// The session is being handed off, and it took too long.
    Moving,
    /// The node takes no new sessions.
    NotReady,
    /// Too many requests are waiting for an answer.
    TooMany,
}

impl Unavailable {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Store, Self::NoLease, Self::OwnerUnreachable, Self::Moving, Self::NotReady, Self::TooMany];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::NoLease => "no_lease",
            Self::OwnerUnreachable => "owner_unreachable",
            Self::Moving => "moving",
            Self::NotReady => "not_ready",
            Self::TooMany => "too_many",
        }
    }
}
