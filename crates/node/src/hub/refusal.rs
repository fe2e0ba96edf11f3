//! Why the hub refuses.

use std::net::SocketAddr;
use std::time::Duration;

use ctedge_protocol::Info;
use ctedge_session::Refusal;
use ctedge_wire::Key;

use super::owning::NotHere;
use crate::license::NoSeat;

/// When a client may come again that found the node full, stopping, or its session on the move.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a transport is not let into a session, and with it how the transport answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefusal {
    /// The room token is missing, forged or expired. Answer 401; after a CONNECT a Socket.IO CONNECT_ERROR, so that the
    /// client does not try again.
    #[error("the room token is not valid")]
    Unauthorized,
    /// The room token belongs to another key than the request was placed by. Answer 421 with this key: nothing happened.
    #[error("the room token belongs to the key {0}")]
    Misdirected(Key),
    /// Another node owns the session. Answer 421 with it: nothing happened. After the handshake close at the Engine.IO
    /// level, so that the client comes again.
    #[error("the session is owned by the node {node}")]
    Redirect {
        /// The id of the owner.
        node: String,
        /// Since when.
        epoch: u64,
        /// Where it listens.
        address: Option<SocketAddr>,
    },
    /// A guest whose session this node does not have: its host may yet come back. Close at the Engine.IO level, so that
    /// the stock client tries again.
    #[error("the session is not here; its host may bring it back")]
    SessionMissing,
    /// The session is full or has ended, or the token does not fit it. As for [`Self::Unauthorized`], with the reason.
    #[error("{0}")]
    Refused(String),
    /// As many people are connected as the license allows. As for [`Self::Unauthorized`], with the reason.
    #[error(transparent)]
    NoSeat(#[from] NoSeat),
    /// The node takes no new sessions, has no room for one, or is stopping. Answer 503 with Retry-After; after the handshake close at the
    /// Engine.IO level.
    #[error("the node takes no new sessions at the moment")]
    Unavailable {
        /// When to come again.
        retry_after: Duration,
    },
}

impl AttachRefusal {
    /// Not now, but soon.
    pub(crate) fn unavailable() -> Self {
        Self::Unavailable { retry_after: RETRY_AFTER }
    }

    /// Whether it says something of this node rather than of the client, who is to come again or go elsewhere.
    pub(crate) fn is_the_nodes(&self) -> bool {
        matches!(self, Self::Misdirected(_) | Self::Redirect { .. } | Self::Unavailable { .. })
    }

    /// The word of the metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => "room_token",
            Self::Misdirected(_) => "misdirected",
            Self::Redirect { .. } => "redirect",
            Self::SessionMissing => "session_missing",
            Self::Refused(_) => "attach_refused",
            Self::NoSeat(_) => "no_seat",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

impl From<Refusal> for AttachRefusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::HostAbsent => Self::SessionMissing,
            // Whoever could not be held until the session has its next owner comes again.
            Refusal::Moving => Self::unavailable(),
            refused => Self::Refused(refused.to_string()),
        }
    }
}

impl From<NotHere> for AttachRefusal {
    fn from(not_here: NotHere) -> Self {
        match not_here {
            NotHere::OtherKey(key) => Self::Misdirected(key),
            NotHere::Elsewhere { node, epoch, address } => Self::Redirect { node, epoch, address: Some(address) },
            NotHere::Missing => Self::SessionMissing,
            NotHere::Unavailable { retry_after } => Self::Unavailable { retry_after },
            // Another node may have room.
            NotHere::Taken | NotHere::NotAccepting | NotHere::Full => Self::unavailable(),
        }
    }
}

/// Why a session does not let a transport in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAttached {
    /// No licensed seat is free at this moment.
    NoSeat,
    /// The session refuses.
    Refused(Refusal),
}

impl From<Refusal> for NotAttached {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Why a session is not created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CreateRefusal {
    /// The server has no good license. What to tell the user.
    NoLicense(Info),
    /// There is no licensed seat for its host.
    NoSeat(NoSeat),
    /// There is a session under this key.
    InUse,
    /// It cannot be begun here.
    NotHere(NotHere),
}

impl From<NotHere> for CreateRefusal {
    fn from(not_here: NotHere) -> Self {
        match not_here {
            NotHere::Taken | NotHere::Elsewhere { .. } | NotHere::OtherKey(_) => Self::InUse,
            not_here => Self::NotHere(not_here),
        }
    }
}

/// Why nobody is asked whether somebody may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JoinRefusal {
    /// The session is not here, or its host is not there yet.
    NotHere(NotHere),
    /// The session is on its way to another node.
    Moving,
    /// There is no licensed seat for a guest.
    NoSeat(NoSeat),
    /// The session has as many peers and join requests as it may have.
    SessionFull,
    /// The node has as many join requests as it may have.
    ServerFull,
}

impl From<NoSeat> for CreateRefusal {
    fn from(no_seat: NoSeat) -> Self {
        Self::NoSeat(no_seat)
    }
}

impl From<NoSeat> for JoinRefusal {
    fn from(no_seat: NoSeat) -> Self {
        Self::NoSeat(no_seat)
    }
}

impl From<NotHere> for JoinRefusal {
    fn from(not_here: NotHere) -> Self {
        Self::NotHere(not_here)
    }
}
