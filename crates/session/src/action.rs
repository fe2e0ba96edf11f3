//! What the owner of a session is to do, and why peers, joins and sessions end.

use bytes::Bytes;
use ctedge_protocol::head::Malformed;
use ctedge_protocol::{Peer, PeerId, RoomClaim, User, Workspace};
use ctedge_wire::{Key, KeyedToken};

use crate::peers::PeerSlot;
use crate::stored::StoredPeer;

/// One transport of one peer: [`crate::Session::attach`] names it, so that the end of an old transport cannot be taken
/// for the end of the one that displaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId(pub(crate) u64);

/// What the owner of a session is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look into the peer's outbox: there is more. One for any number of messages until it is taken.
    Wake(PeerSlot),
    /// Look at the peer: after what its outbox still holds, its transport is to be closed.
    ClosePeer {
        /// The peer.
        peer: PeerSlot,
        /// Why.
        reason: CloseReason,
    },
    /// Close this transport, a newer one of the same peer has taken over.
    Displaced {
        /// The peer.
        peer: PeerSlot,
        /// Its older transport.
        attachment: AttachmentId,
    },
    /// A join request has its answer.
    JoinDecided {
        /// The token that the request was made with.
        token: KeyedToken,
        /// The answer.
        decision: JoinDecision,
    },
    /// A peer has joined, or has said its first word: what is to be stored of it, so that another owner can take the session over.
    PeerJoined(StoredPeer),
    /// A peer that was stored is none any more: it has left, or the session has ended.
    PeerLeft {
        /// The room clock that tells it from the others.
        clock: u64,
    },
    /// Other requests are in flight than [`crate::Session::in_flight_bytes`] gave last. Said once until it is called.
    InFlightChanged,
    /// A request is in flight that was not. It follows on what [`crate::Session::in_flight_bytes`] gave last, and is to be noted before
    /// the peer that is asked hears of it. Said after [`Self::InFlightChanged`]; that a request is answered is said by that alone.
    Requested(Bytes),
    /// The session moves, and no transport of it is left: it can be exported.
    MoveReady,
    /// Something for the session audit.
    Audit(AuditEvent),
    /// A peer did something that is worth a line in the log. The first of its kind for this peer; all are counted.
    Warning {
        /// The peer.
        peer: PeerId,
        /// What it did.
        warning: Warning,
    },
    /// The session has ended; some peers may still have to hear of it.
    Ended {
        /// Why.
        reason: EndReason,
    },
    /// The session has ended and nothing of it is needed any more: forget it.
    Finished,
}

/// Why a peer's transport is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer left.
    Left,
    /// The session has ended.
    SessionEnded,
    /// More was undelivered to the peer than may be kept; what was undelivered is gone.
    OutboxFull,
    /// More of what the peer sent had to wait than may be kept; what was beyond is lost.
    HeldFull,
    /// A newer transport of the same peer has taken over.
    Displaced,
    /// The same token came back with another public key: the client was started anew.
    Replaced,
    /// The peer is not known (any more).
    Gone,
    /// The session moves to another owner: whoever comes back finds it there.
    Moved,
}

impl CloseReason {
    /// Whether the client is to be told not to come back. If not, it may try again, or is here already.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Displaced | Self::Gone | Self::Moved)
    }

    /// The name of the reason in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::SessionEnded => "session-ended",
            Self::OutboxFull => "outbox-full",
            Self::HeldFull => "held-full",
            Self::Displaced => "displaced",
            Self::Replaced => "replaced",
            Self::Gone => "gone",
            Self::Moved => "moved",
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The host left.
    HostLeft,
    /// The host's transport was lost for longer than the grace period.
    HostLost,
    /// The host did not read what it was sent.
    HostOutboxFull,
    /// More of what the host sent had to wait than may be kept.
    HostHeldFull,
    /// The host's client was started anew.
    HostReplaced,
    /// The host never came.
    HostNeverCame,
    /// The node or its operator ended it.
    Closed,
}

impl EndReason {
    /// The name of the reason in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostLeft => "host-left",
            Self::HostLost => "host-lost",
            Self::HostOutboxFull => "host-outbox-full",
            Self::HostHeldFull => "host-held-full",
            Self::HostReplaced => "host-replaced",
            Self::HostNeverCame => "host-never-came",
            Self::Closed => "closed",
        }
    }
}

/// The answer to a request to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinDecision {
    /// The host agreed. The guest gets a token of this claim.
    Accepted(Box<Acceptance>),
    /// The host refused, or answered something that cannot be read.
    Rejected,
    /// The host did not answer in time.
    TimedOut,
    /// The session ended first.
    SessionEnded,
}

/// What a guest gets whom the host let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// What its room token is to claim.
    pub claim: RoomClaim,
    /// What the host shares.
    pub workspace: Workspace,
    /// The host.
    pub host: Peer,
}

/// Why the session refuses. A value, not a fault: the node turns it into what the client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The token is for another session.
    #[error("the token is for another session")]
    WrongSession,
    /// The token contradicts what the session knows of the peer.
    #[error("the token does not fit the session")]
    Mismatch,
    /// The host has no transport yet, or none in time.
    #[error("the session's host is not there")]
    HostAbsent,
    /// As many peers, or join requests, as the session may have.
    #[error("the session is full")]
    Full,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// The session is about to have another owner. Whoever comes is to be held until it has.
    #[error("the session moves to another node")]
    Moving,
}

/// Something for the session audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// What happened.
    pub kind: AuditKind,
    /// The session.
    pub session: Key,
    /// Who: the host for `Created` and `Ended`.
    pub user: User,
    /// The peer's id.
    pub peer: PeerId,
    /// The name and version of the peer's client, as it said them.
    pub client: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditKind {
    /// The host's first transport came.
    Created,
    /// A guest joined.
    Joined,
    /// A guest left.
    Left,
    /// The session ended.
    Ended(EndReason),
}

/// What a peer did that is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Warning {
    /// It sent bytes that are no message.
    Malformed(Malformed),
    /// It sent a message over the bound.
    TooLarge,
    /// It speaks a protocol version that is not compatible with ours.
    IncompatibleVersion,
    /// It sent other peers something unencrypted.
    Unencrypted,
}

impl Warning {
    /// A bit of its own for each kind.
    pub(crate) fn bit(self) -> u8 {
        match self {
            Self::Malformed(_) => 1,
            Self::TooLarge => 2,
            Self::IncompatibleVersion => 4,
            Self::Unencrypted => 8,
        }
    }
}
