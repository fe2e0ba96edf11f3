//! What the node must do, as its ownership decided.

use std::net::SocketAddr;
use std::time::Instant;

use ctedge_wire::Key;

use crate::ask::{Ticket, Verdict};
use crate::command::{Command, Estate};
use crate::drain::Drain;
use crate::event::Event;
use crate::id::{Epoch, LeaseId};
use crate::record::Legacy;

/// Names one command on its way to the store. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// One thing to do. They are done in the order in which they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give the command to the store, and its answer to [`crate::Ownership::store_answered`]: exactly one for each, within the
    /// time in which the store must answer at all. Commands may overtake each other.
    Store(CommandId, Command),
    /// Ask the node at that address for its health, and tell [`crate::Ownership::probe_answered`] whether it is that very
    /// lease that answered within [`crate::OwnershipSettings::probe_timeout`]. A lost packet must not end a lease: connect
    /// more than once within that time.
    Probe(LeaseId, SocketAddr),
    /// Ask the node's own listener for anything over a connection of its own, as others would, and tell
    /// [`crate::Ownership::listener_answered`] whether it answered at all within [`crate::OwnershipSettings::probe_timeout`].
    ProbeOneself,
    /// Nobody got in just now: give whoever is away from any session a whole grace period from here on.
    RenewGraces,
    /// Nobody gets in any more: own what else the node has to give away, and call [`crate::Ownership::drain`] with this.
    Drain(Drain),
    /// Answer the request.
    Answer(Ticket, Verdict),
    /// The node owns the key: make the session. Requests for it are answered after this.
    Begin {
        /// The key.
        key: Key,
        /// Since when.
        epoch: Epoch,
        /// What to make it from.
        origin: Origin,
    },
    /// The session's turn has come to be handed off: admit nobody any more, let what its peers sent be relayed, close their
    /// transports politely, then export it to [`crate::Ownership::moved`]. If it ends meanwhile, say
    /// [`crate::Ownership::session_ended`] instead.
    StartMoving {
        /// The key.
        key: Key,
        /// Since when the node owns it.
        epoch: Epoch,
    },
    /// Close all transports of these sessions in such a way that their clients come back, and forget the sessions. They
    /// are another node's by then, or will be: nothing may be relayed any more.
    LetGo {
        /// Which.
        which: LetGo,
        /// Why.
        why: LetGoReason,
    },
    /// The lease is over. When everything is let go, and only then, draw an incarnation and call
    /// [`crate::Ownership::registers_anew`].
    RegisterAnew,
    /// Whether sessions may be served. Given whenever it changes, which is with every heartbeat.
    Fence(Fence),
    /// Nobody came back for these sessions, and they are deleted. To be written into the audit.
    Reaped(Vec<Key>),
    /// The drain is complete: nothing is left. With `exit`, the lease is over and the process may end.
    DrainFinished {
        /// Whether the process is to end.
        exit: bool,
    },
    /// Count this in the metrics, and write it to the log.
    Count(Event),
}

/// What a session is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing: it is a first one.
    Created,
    /// What the former owner handed off: the session goes on exactly there.
    Estate(Estate),
    /// What the store knew when the former owner died: peers in their grace, requests in flight that nobody will answer.
    Takeover(Legacy),
}

/// Which sessions are let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetGo {
    /// All of the node.
    All,
    /// One.
    One(Key),
}

/// Why a session is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LetGoReason {
    /// Another node or the supervisor ended the node's lease.
    LeaseEnded,
    /// The store says that the session has another owner.
    EpochPassed,
}

impl LetGoReason {
    /// All reasons.
    pub const ALL: [Self; 2] = [Self::LeaseEnded, Self::EpochPassed];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseEnded => "lease_ended",
            Self::EpochPassed => "epoch_passed",
        }
    }
}

/// Whether a node may serve the sessions that it has.
///
/// It holds for each request and each relayed message, and it closes by itself: a process that was stopped and goes on
/// relays nothing before it has looked at its clock. The clock must be one that runs on while the process is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// It may until then, and then it must hold everything until it is told more.
    OpenUntil(Instant),
    /// The same, but the store cannot be reached: the node goes on because whoever answers probes keeps its lease.
    CutOffUntil(Instant),
    /// It must hold everything until it is told more: it was away for so long that its sessions may be another's.
    Closed,
}

impl Fence {
    /// Whether a request may be served or a message relayed at this moment.
    #[must_use]
    pub fn is_open(self, now: Instant) -> bool {
        match self {
            Self::OpenUntil(until) | Self::CutOffUntil(until) => now < until,
            Self::Closed => false,
        }
    }
}
