//! Carries bytes both ways between a client and a node until both directions have ended.
//!
//! One future per tunnel polls both directions. It reads into a buffer of the thread and writes at once; only what the
//! other side does not take stays with the tunnel, so that an idle tunnel holds no buffer. A direction ends by itself:
//! who has said its last word may still listen (half-close).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::frames::{CLOSE_GOING_AWAY, Frames, send_away};
use crate::stop::Phase;
use crate::stream::{ClientStream, Connection};

/// Enough for a full socket buffer in a few reads, and small enough to stay in a core's cache.
const BUFFER_BYTES: usize = 32 * 1024;

/// How long a client gets to answer a close frame; a live one does within a round trip.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

/// The client's end.
pub(super) enum Client {
    /// The bare socket, and the connection that it counts for as long as it is held.
    Plain { tcp: TcpStream, _connection: Arc<Connection> },
    /// TLS, as Pingora keeps it.
    Secure(Stream),
}

impl Client {
    /// Takes the bare socket out of what Pingora held, where there is one. It has been flushed.
    pub(super) fn new(stream: Stream) -> Self {
        if stream.as_any().is::<ClientStream>() {
            if let Ok(plain) = stream.into_any().downcast::<ClientStream>() {
                let (tcp, connection) = plain.into_parts();
                return Self::Plain { tcp, _connection: connection };
            }
            unreachable!("the type was just asked for");
        }
        Self::Secure(stream)
    }
}

/// Both ends of a tunnel and what is on its way.
pub(super) struct Ends {
    client: Client,
    node: TcpStream,
    to_node: Flow,
    to_client: Flow,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// What was read and not taken by the other side yet.
    rest: Option<Box<Bytes>>,
    /// Where the source's frames end.
    frames: Frames,
    /// Whether something was written and perhaps not sent.
    flush_due: bool,
    source_ended: bool,
    ended: bool,
    bytes: u64,
}

/// What a tunnel carried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried {
    pub(super) to_node: u64,
    pub(super) to_client: u64,
    pub(super) end: End,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides ended it.
    Closed,
    /// A side was lost.
    Lost,
    /// Nothing was said for too long.
    Idle,
    /// The balancer ends.
    Stopping,
    /// The node seems dead: the client comes back and gets to another.
    NodeDown,
}

/// Whether the client is to leave, since the balancer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Not,
    /// The node is to be asked where the client's next frame ends.
    Due,
    /// The node was asked. It sends the client away so that nothing is lost, if it knows the word.
    Asked,
}

impl End {
    /// The word of logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
            Self::NodeDown => "node-down",
        }
    }
}

impl Ends {
    /// Begins with bytes that are due already: `head` and the node's first bytes to the client, the client's to the
    /// node.
    pub(super) fn new(client: Client, node: TcpStream, head: &[u8], of_node: &[u8], of_client: Bytes) -> Self {
        let mut to_client = Flow::starting_with([head, of_node].concat().into());
        to_client.frames.pass(of_node);
        let mut to_node = Flow::starting_with(of_client.clone());
        to_node.frames.pass(&of_client);
        Self { client, node, to_node, to_client }
    }

    /// Carries until the tunnel ends, for whatever reason.
    pub(super) async fn pump(
        mut self,
        idle_time_max: Duration,
        mut phase: watch::Receiver<Phase>,
        went_down: &mut watch::Receiver<()>,
    ) -> Carried {
        let end = self.carry(idle_time_max, &mut phase, went_down).await;
        if matches!(end, End::Idle | End::Stopping | End::NodeDown) {
            // Whoever does not answer within its time is gone already.
            let _ = timeout_at(Instant::now() + GOODBYE_TIME_MAX, self.say_goodbye()).await;
        }
        Carried { to_node: self.to_node.bytes, to_client: self.to_client.bytes, end }
    }

    async fn carry(
        &mut self,
        idle_time_max: Duration,
        phase: &mut watch::Receiver<Phase>,
        went_down: &mut watch::Receiver<()>,
    ) -> End {
        let mut idle = pin!(sleep(idle_time_max));
        let mut last_moved = Instant::now();
        let mut leaves = phase.clone();
        let mut leaves = pin!(leaves.wait_for(|phase| *phase >= Phase::Leaving));
        let mut leaving = Leaving::Not;
        // An error means that the balancer is gone, which is a cut as well.
        let mut cut = pin!(phase.wait_for(|phase| *phase >= Phase::Cutting));
        let mut node_down = pin!(went_down.changed());
        poll_fn(|cx| {
            let bytes_before = self.to_node.bytes + self.to_client.bytes;
            match self.poll_both(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(End::Closed),
                Poll::Ready(Err(_)) => return Poll::Ready(End::Lost),
                Poll::Pending => {}
            }
            if self.to_node.bytes + self.to_client.bytes > bytes_before {
                last_moved = Instant::now();
            }
            // The timer is only moved when it fires: moving it at every message would cost more than the message.
            while idle.as_mut().poll(cx).is_ready() {
                let due = last_moved + idle_time_max;
                if due <= Instant::now() {
                    return Poll::Ready(End::Idle);
                }
                idle.as_mut().reset(due);
            }
            if node_down.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::NodeDown);
            }
            // Nothing is cut before everybody was asked to leave.
            if leaving == Leaving::Not {
                let _ = ready!(leaves.as_mut().poll(cx));
                leaving = Leaving::Due;
            }
            if leaving == Leaving::Due && !self.to_node.source_ended && self.to_node.stands_between_frames() {
                leaving = Leaving::Asked;
                self.to_node.say(send_away());
                cx.waker().wake_by_ref();
            }
            if cut.as_mut().poll(cx).is_ready() { Poll::Ready(End::Stopping) } else { Poll::Pending }
        })
        .await
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let to_node = self.poll_to_node(cx)?;
        let to_client = self.poll_to_client(cx)?;
        if to_node.is_ready() && to_client.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_to_node(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_node.poll(cx, &mut self.client, &mut self.node)
    }

    fn poll_to_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to_client.poll(cx, &mut self.node, &mut self.client)
    }

    /// Ends the node's direction between two frames with a close frame of our own, and goes on reading until the
    /// client has closed too: what it had sent still reaches the node.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            // The rest of the node's frame may depend on what the client still says.
            let _ = self.poll_to_node(cx)?;
            if !self.to_client.stands_between_frames() {
                let _ = self.poll_to_client(cx)?;
            }
            let may_speak = self.to_client.ended || self.to_client.stands_between_frames();
            if may_speak { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
        })
        .await?;
        if !self.to_client.ended {
            self.client.write_all(&CLOSE_GOING_AWAY).await?;
            self.client.flush().await?;
        }
        poll_fn(|cx| self.poll_to_node(cx)).await
    }
}

impl Flow {
    fn starting_with(first: Bytes) -> Self {
        let rest = (!first.is_empty()).then(|| Box::new(first));
        Self { rest, ..Self::default() }
    }

    /// Whether everything that the sink was given so far is whole frames.
    fn stands_between_frames(&self) -> bool {
        self.frames.between() && self.rest.is_none()
    }

    /// Puts a frame of our own next, between two of the source's.
    fn say(&mut self, frame: Bytes) {
        debug_assert!(self.stands_between_frames());
        self.rest = Some(Box::new(frame));
    }

    /// Carries what can be carried. Ready when the source has ended and the sink knows.
    fn poll<Source, Sink>(&mut self, cx: &mut Context<'_>, source: &mut Source, sink: &mut Sink) -> Poll<io::Result<()>>
    where
        Source: AsyncRead + Unpin,
        Sink: AsyncWrite + Unpin,
    {
        loop {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if let Some(rest) = &mut self.rest {
                let written = write(cx, sink, rest)?;
                self.bytes += written as u64;
                self.flush_due |= written > 0;
                rest.advance(written);
                if !rest.is_empty() {
                    return Poll::Pending;
                }
                self.rest = None;
            }
            if self.flush_due {
                ready!(Pin::new(&mut *sink).poll_flush(cx))?;
                self.flush_due = false;
            }
            if self.source_ended {
                ready!(Pin::new(&mut *sink).poll_shutdown(cx))?;
                self.ended = true;
                continue;
            }
            ready!(self.poll_read_and_write(cx, source, sink))?;
        }
    }

    fn poll_read_and_write<Source, Sink>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Source,
        sink: &mut Sink,
    ) -> Poll<io::Result<()>>
    where
        Source: AsyncRead + Unpin,
        Sink: AsyncWrite + Unpin,
    {
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(source).poll_read(cx, &mut read))?;
            let bytes = read.filled();
            if bytes.is_empty() {
                self.source_ended = true;
                return Poll::Ready(Ok(()));
            }
            self.frames.pass(bytes);
            let written = write(cx, sink, bytes)?;
            self.bytes += written as u64;
            self.flush_due = true;
            if written < bytes.len() {
                self.rest = Some(Box::new(Bytes::copy_from_slice(&bytes[written..])));
            }
            Poll::Ready(Ok(()))
        })
    }
}

/// Writes as much as the sink takes. When that is not all, the sink will wake the task.
fn write(cx: &mut Context<'_>, sink: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match Pin::new(&mut *sink).poll_write(cx, &bytes[written..]) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(more)) => written += more,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(written)
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_read(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_write(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
