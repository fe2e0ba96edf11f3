//! What a session is whichever transport carries it: its engine, its attachment to the hub, its cursor.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use ctedge_socketio::{CloseReason, ConnectRequest, Engine, Event, Sink};

use super::handshake::ClientHello;
use crate::connections::ConnectionSlot;
use crate::hub::{self, AttachRefusal, Attachment, Hub, Pending};

/// A session, and what it holds of the node.
pub(super) struct Link {
    pub(super) engine: Engine,
    client: Client,
    /// The offset of the last message that was written.
    cursor: u64,
    hub: Arc<Hub>,
    _slot: ConnectionSlot,
}

enum Client {
    /// Not yet let in.
    Stranger(Box<ClientHello>),
    /// Never to be let in; it is told so at its CONNECT.
    Refused(Box<AttachRefusal>),
    Attached(Attachment),
}

/// What [`Link::write_owed`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// No messages; the waker is registered for the next.
    Nothing,
    /// Messages were written, and there may be more.
    More,
    /// Everything is written, and the transport is to be closed.
    Close(hub::CloseReason),
}

impl Link {
    /// A session of the client that said `hello`. It is attached at once if it showed its token: only so can a client at
    /// the wrong node be sent on. What only the client itself can be told waits for its CONNECT.
    pub(super) fn new(
        hub: Arc<Hub>,
        slot: ConnectionSlot,
        engine: Engine,
        hello: ClientHello,
    ) -> Result<Self, AttachRefusal> {
        let client = match hello.complete() {
            None => Client::Stranger(Box::new(hello)),
            Some((token, handshake)) => match hub.attach(hello.routed_key(), token, handshake) {
                Ok(attachment) => Client::Attached(attachment),
                Err(refusal @ (AttachRefusal::Misdirected(_) | AttachRefusal::Unavailable)) => return Err(refusal),
                Err(AttachRefusal::SessionMissing) => Client::Stranger(Box::new(hello)),
                Err(refusal) => Client::Refused(Box::new(refusal)),
            },
        };
        Ok(Self { engine, client, cursor: 0, hub, _slot: slot })
    }

    /// Writes the first packet of the session.
    pub(super) fn open(&self, sid: &str, sink: &mut dyn Sink) {
        self.engine.open(sid, sink);
    }

    /// A text packet of the client.
    pub(super) fn receive_text(&mut self, packet: &[u8], now: Instant) -> Result<(), CloseReason> {
        match self.engine.receive_text(packet, now)? {
            Some(Event::Connect(request)) => self.connect(&request),
            Some(Event::Acknowledged(offset)) => {
                if let Client::Attached(attachment) = &self.client {
                    attachment.acknowledge(offset);
                }
                Ok(())
            }
            Some(Event::Message) | None => Ok(()),
        }
    }

    /// A binary packet of the client.
    pub(super) fn receive_binary(&mut self, data: &[u8], now: Instant) -> Result<(), CloseReason> {
        if let (Some(Event::Message), Client::Attached(attachment)) = (self.engine.receive_binary(now)?, &self.client) {
            attachment.receive(data);
        }
        Ok(())
    }

    /// Writes what the client is owed, messages up to about `budget_bytes` first.
    pub(super) fn write_owed(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        now: Instant,
        sink: &mut dyn Sink,
    ) -> Owed {
        let Self { engine, client, cursor, .. } = self;
        let owed = match client {
            Client::Attached(attachment) if engine.is_connected() => {
                let before = *cursor;
                let write = &mut |offset, data: &Bytes| {
                    engine.message(offset, data, sink);
                    *cursor = offset;
                };
                match attachment.poll_pending(cx, before, budget_bytes, write) {
                    Poll::Pending => Owed::Nothing,
                    Poll::Ready(Pending::Messages) => Owed::More,
                    Poll::Ready(Pending::Close { reason }) => Owed::Close(reason),
                }
            }
            _ => Owed::Nothing,
        };
        engine.flush(sink, now);
        owed
    }

    /// The client has everything that was written: it answered our close, or came for more.
    pub(super) fn acknowledge_written(&self) {
        if let Client::Attached(attachment) = &self.client {
            attachment.acknowledge(self.cursor);
        }
    }

    fn connect(&mut self, request: &ConnectRequest) -> Result<(), CloseReason> {
        let attached = match &mut self.client {
            Client::Attached(_) => Ok(()),
            Client::Refused(refusal) => Err(AttachRefusal::clone(refusal)),
            Client::Stranger(hello) => {
                hello.add(&request.auth);
                let attached = match hello.complete() {
                    None => Err(AttachRefusal::Unauthorized),
                    Some((token, handshake)) => self.hub.attach(hello.routed_key(), token, handshake),
                };
                attached.map(|attachment| self.client = Client::Attached(attachment))
            }
        };
        if let Err(refusal) = attached {
            return Err(self.refuse(&refusal));
        }
        if let Client::Attached(attachment) = &self.client {
            let pid = attachment.recovery_id();
            let recovery = request.recovery.as_ref().filter(|recovery| recovery.pid == *pid);
            self.cursor = attachment.cursor_after(recovery.and_then(|recovery| recovery.offset));
            self.engine.accept(attachment.peer_id(), pid);
        }
        Ok(())
    }

    /// Refuses the client for good, or lets it run into a closed transport so that it comes again.
    fn refuse(&mut self, refusal: &AttachRefusal) -> CloseReason {
        let comes_again = matches!(refusal, AttachRefusal::SessionMissing | AttachRefusal::Unavailable);
        if !comes_again {
            self.engine.refuse(&refusal.to_string());
        }
        CloseReason::Refused
    }
}
