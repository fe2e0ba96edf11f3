//! A transport's end of a session.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use ctedge_protocol::PeerId;
use ctedge_session::{Attached, AttachmentId, CloseReason, PeerSlot};
use ctedge_wire::Key;

use super::Hub;
use super::cell::SessionCell;

/// A transport's end of a session. Dropping it detaches the transport: the peer's grace period starts, unless a newer
/// transport of the same peer has taken over.
pub struct Attachment {
    hub: Arc<Hub>,
    cell: Arc<SessionCell>,
    peer: PeerSlot,
    attachment: AttachmentId,
    peer_id: PeerId,
    /// Since when this node owns the session; 0 where ownership is not shared, or where the balancer placed the request
    /// by another key.
    epoch: u64,
}

/// What [`Attachment::poll_pending`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// At least one message went into the sink. There may be more.
    Messages,
    /// Everything that is owed has been handed out, and the transport is to be closed.
    Close {
        /// Why. If it [is final](CloseReason::is_final), a Socket.IO DISCONNECT comes before the close; if not, the
        /// close is at the Engine.IO level alone.
        reason: CloseReason,
    },
}

impl Attachment {
    pub(super) fn new(
        hub: &Arc<Hub>,
        cell: &Arc<SessionCell>,
        attached: Attached,
        peer_id: PeerId,
        routed: Option<&Key>,
    ) -> Self {
        Self {
            hub: Arc::clone(hub),
            cell: Arc::clone(cell),
            peer: attached.peer,
            attachment: attached.attachment,
            peer_id,
            epoch: if routed.is_none_or(|routed| routed == cell.key()) { cell.epoch() } else { 0 },
        }
    }

    /// A MessagePack map from this peer into the session. Borrowed: what is relayed is written anew for each receiver.
    pub fn receive(&self, message: &[u8]) {
        self.cell.receive(&self.hub, self.peer, message);
    }

    /// Hands what follows `cursor` to `sink`, each message with its offset, until `budget_bytes` are reached (at least
    /// one message). Registers the waker when there is nothing. The sink is called under the session's lock: it copies
    /// or clones, and calls nothing of the hub. The next cursor is the offset of the last message.
    pub fn poll_pending(
        &self,
        cx: &mut Context<'_>,
        cursor: u64,
        budget_bytes: usize,
        sink: &mut dyn FnMut(u64, &Bytes),
    ) -> Poll<Pending> {
        self.cell.poll_pending(cx, (self.peer, self.attachment), cursor, budget_bytes, sink)
    }

    /// Receipt of everything up to `offset` is proven: it need not be kept.
    pub fn acknowledge(&self, offset: u64) {
        self.cell.acknowledge(self.peer, offset);
    }

    /// The cursor at which a transport starts: after the offset that a returning client names, else before everything
    /// that the peer may not have received. Give an offset only if the client came with this session's
    /// [`Self::recovery_id`].
    #[must_use]
    pub fn cursor_after(&self, recovered_offset: Option<u64>) -> u64 {
        self.cell.cursor_after(self.peer, recovered_offset)
    }

    /// Names this life of the session, for the `pid` of Socket.IO's connection state recovery. No secret.
    #[must_use]
    pub fn recovery_id(&self) -> &str {
        self.cell.recovery_id()
    }

    /// Whether this transport is to end at once: the session is not here any more.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cell.is_cut()
    }

    /// Whether the session moves: what this transport brings is to be told by [`Self::heard`].
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.cell.is_moving()
    }

    /// The transport has brought something, be it a part of a message. Locks the session: it need not be told of each byte.
    pub fn heard(&self, now: Instant) {
        self.cell.heard(now);
    }

    /// When the transports of a session that moves are cut at the latest.
    #[must_use]
    pub fn move_ends(&self) -> Option<Instant> {
        self.cell.move_ends()
    }

    /// Since when this node owns the key that the balancer placed the request by; 0 where ownership is not shared.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The peer's id.
    #[must_use]
    pub fn peer_id(&self) -> &str {
        self.peer_id.as_str()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.cell.detach(&self.hub, self.peer, self.attachment);
    }
}
