//! What a session is whichever transport carries it: its engine, its attachment to the hub, its cursor.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_session::CutReason;
use ctedge_socketio::{CloseReason, ConnectRequest, Engine, Event, Recovery, Sink};

use super::handshake::ClientHello;
use crate::clock;
use crate::connections::ConnectionSlot;
use crate::hub::{self, AttachRefusal, Attachment, Hub, Pending};

/// How often a session that moves is told that a client brings something.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// A session, and what it holds of the node.
pub(super) struct Link {
    pub(super) engine: Engine,
    client: Client,
    /// The offset of the last message that was written.
    cursor: u64,
    /// When the session was last told that this client brings something, which it is while it moves.
    told_at: Option<Instant>,
    hub: Arc<Hub>,
    _slot: ConnectionSlot,
}

enum Client {
    /// Not yet let in.
    Stranger(Box<ClientHello>),
    /// Its CONNECT waits until the hub has found its session.
    Attaching(Box<Attaching>),
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
    /// The client was not let in, and the session is over.
    Refused(CloseReason),
}

/// A client that is being let in, and what it said of its earlier connection.
type Attaching = (Pin<Box<dyn Future<Output = Result<Attachment, AttachRefusal>> + Send>>, Option<Recovery>);

impl Link {
    /// A session of the client that said `hello`. It is attached at once if it showed its token: only so can a client at
    /// the wrong node be sent on. What only the client itself can be told waits for its CONNECT.
    pub(super) async fn new(
        hub: Arc<Hub>,
        slot: ConnectionSlot,
        engine: Engine,
        hello: ClientHello,
    ) -> Result<Self, AttachRefusal> {
        let client = match attach(&hub, &hello).await {
            None => match hub.elsewhere(hello.routed_key(), hello.unreachable()).await {
                Some(redirect) => return Err(redirect),
                None => Client::Stranger(Box::new(hello)),
            },
            Some(Ok(attachment)) => Client::Attached(attachment),
            Some(Err(AttachRefusal::SessionMissing)) => Client::Stranger(Box::new(hello)),
            Some(Err(refusal)) if refusal.is_the_nodes() => return Err(refusal),
            Some(Err(refusal)) => Client::Refused(Box::new(refusal)),
        };
        Ok(Self { engine, client, cursor: 0, told_at: None, hub, _slot: slot })
    }

    /// Since when this node owns the session that the client is in; 0 where ownership is not shared.
    pub(super) fn epoch(&self) -> u64 {
        if let Client::Attached(attachment) = &self.client { attachment.epoch() } else { 0 }
    }

    /// Ready when what the client sends may be relayed. What it sends meanwhile waits in its socket.
    pub(super) fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.gate().poll_open(cx, clock::awake_or_not())
    }

    /// Whether the transport is to end at once: its session is not here any more.
    pub(super) fn is_cut(&self) -> bool {
        matches!(&self.client, Client::Attached(attachment) if attachment.is_cut())
    }

    /// Something has come from the client, be it a part of a message: a session that moves waits for what is under way.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Client::Attached(attachment) = &self.client
            && attachment.is_moving()
            && self.told_at.is_none_or(|told_at| now >= told_at + TELL_EVERY)
        {
            self.told_at = Some(now);
            attachment.heard(now);
        }
    }

    /// Until when a client that is sent away may bring what it has under way: its session moves, or the node stops.
    pub(super) fn away_ends(&self, now: Instant) -> Instant {
        let move_ends = match &self.client {
            Client::Attached(attachment) => attachment.move_ends(),
            _ => None,
        };
        move_ends.unwrap_or_else(|| now + self.hub.settings().timeouts.stop)
    }

    /// The client was sent away and brought nothing more, nor did it close.
    pub(super) fn note_silent(&self) {
        let reason = CutReason::Silent.as_str();
        self.hub.metrics().transports_cut.with_label_values(&[reason]).inc();
        tracing::info!(reason, "a connection was cut before its client had closed it");
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
        let refused = self.poll_attaching(cx);
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
        refused.map_or_else(Owed::Refused, |()| owed)
    }

    /// The client has everything that was written: it answered our close, or came for more.
    pub(super) fn acknowledge_written(&self) {
        if let Client::Attached(attachment) = &self.client {
            attachment.acknowledge(self.cursor);
        }
    }

    fn connect(&mut self, request: &ConnectRequest) -> Result<(), CloseReason> {
        match &mut self.client {
            Client::Attached(_) => {
                self.accept(request.recovery.as_ref());
                Ok(())
            }
            Client::Refused(refusal) => {
                let refusal = AttachRefusal::clone(refusal);
                Err(self.refuse(&refusal))
            }
            Client::Stranger(hello) => {
                hello.add(&request.auth);
                let (hub, hello) = (Arc::clone(&self.hub), mem::take(&mut **hello));
                let attaching = async move { attach(&hub, &hello).await.unwrap_or(Err(AttachRefusal::Unauthorized)) };
                self.client = Client::Attaching(Box::new((Box::pin(attaching), request.recovery.clone())));
                Ok(())
            }
            // The engine takes one CONNECT.
            Client::Attaching(_) => Ok(()),
        }
    }

    /// Lets the client in whose attaching has come to its end, or refuses it.
    fn poll_attaching(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let Client::Attaching(attaching) = &mut self.client else { return Ok(()) };
        let Poll::Ready(attached) = attaching.0.as_mut().poll(cx) else { return Ok(()) };
        let recovery = attaching.1.take();
        match attached {
            Ok(attachment) => {
                self.client = Client::Attached(attachment);
                self.accept(recovery.as_ref());
                Ok(())
            }
            Err(refusal) => {
                let reason = self.refuse(&refusal);
                self.client = Client::Refused(Box::new(refusal));
                Err(reason)
            }
        }
    }

    fn accept(&mut self, recovery: Option<&Recovery>) {
        let Client::Attached(attachment) = &self.client else { return };
        let pid = attachment.recovery_id();
        let recovery = recovery.filter(|recovery| recovery.pid == *pid);
        self.cursor = attachment.cursor_after(recovery.and_then(|recovery| recovery.offset));
        self.engine.accept(attachment.peer_id(), pid);
    }

    /// Refuses the client for good, or lets it run into a closed transport so that it comes again.
    fn refuse(&mut self, refusal: &AttachRefusal) -> CloseReason {
        let comes_again = refusal.is_the_nodes() || matches!(refusal, AttachRefusal::SessionMissing);
        if !comes_again {
            self.engine.refuse(&refusal.to_string());
        }
        CloseReason::Refused
    }
}

/// Asks the hub for the session of a client, if it has shown its token.
async fn attach(hub: &Arc<Hub>, hello: &ClientHello) -> Option<Result<Attachment, AttachRefusal>> {
    let (token, handshake) = hello.complete()?;
    Some(hub.attach(hello.routed_key(), hello.unreachable(), token, handshake).await)
}
