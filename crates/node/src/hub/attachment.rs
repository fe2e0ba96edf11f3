//! A transport's end of a session.

use std::task::{Context, Poll};

use bytes::Bytes;

/// A transport's end of a session. Dropping it detaches the transport: the peer's grace period starts, unless a newer
/// transport of the same peer has taken over.
pub struct Attachment {
    peer_id: String,
}

/// What [`Attachment::poll_pending`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// At least one message went into the sink. There may be more.
    Messages,
    /// Everything that is owed has been handed out, and the transport is to be closed.
    Close {
        /// Why.
        reason: CloseReason,
    },
}

/// Why an attachment is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// A newer transport of the same peer took over. Close at the Engine.IO level.
    Displaced,
    /// The peer left, or its session ended. Say so with a Socket.IO DISCONNECT, then close.
    Ended,
    /// The peer did not read what it was sent: its outbox is over its bound. As for [`Self::Ended`].
    OutboxFull,
}

impl CloseReason {
    /// Whether the client is to be told not to come back (a Socket.IO DISCONNECT before the close).
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Displaced)
    }
}

impl Attachment {
    /// A MessagePack map from this peer into the session.
    pub fn receive(&self, message: Bytes) {
        drop(message);
    }

    /// Hands what follows `cursor` to `sink`, each message with its offset, until `budget_bytes` are reached (at least
    /// one message). Registers the waker when there is nothing. Offsets rise but may have gaps.
    pub fn poll_pending(
        &self,
        cx: &mut Context<'_>,
        cursor: u64,
        budget_bytes: usize,
        sink: &mut dyn FnMut(u64, &Bytes),
    ) -> Poll<Pending> {
        let _ = (cx, cursor, budget_bytes, sink);
        Poll::Ready(Pending::Close { reason: CloseReason::Ended })
    }

    /// Receipt of everything up to `offset` is proven: it need not be kept.
    pub fn acknowledge(&self, offset: u64) {
        let _ = offset;
    }

    /// The cursor at which a transport starts: after the offset that a returning client names, else before everything
    /// that the peer may not have received.
    #[must_use]
    pub fn cursor_after(&self, recovered_offset: Option<u64>) -> u64 {
        recovered_offset.unwrap_or(0)
    }

    /// The peer's id.
    #[must_use]
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }
}
