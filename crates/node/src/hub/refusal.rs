//! Why a transport is not let into a session.

use ctedge_wire::Key;

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
    /// A guest whose session this node does not have: its host may yet come back. Close at the Engine.IO level, so that
    /// the stock client tries again.
    #[error("the session is not here; its host may bring it back")]
    SessionMissing,
    /// The session or the node is full, or the peer was closed for good. As for [`Self::Unauthorized`], with the reason.
    #[error("{0}")]
    Refused(String),
    /// The node takes no new sessions, or is stopping. Answer 503 with Retry-After; after the handshake close at the
    /// Engine.IO level.
    #[error("the node takes no new sessions at the moment")]
    Unavailable,
}
