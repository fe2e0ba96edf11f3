//! A client's connection as Pingora reads and writes it, with what Pingora does not bound: the head of a request.
//!
//! Pingora times every single read of a head, but not the whole, and takes heads of a mebibyte. So the stream itself
//! watches the head: from its first byte on it has a deadline and a budget. What is over is answered here, on plaintext
//! connections with 408 or 431, and the connection ends.
//!
//! Reads go straight to the socket: a buffer of Pingora's would cost 64 KiB a connection. Writes gather up to
//! [`WRITE_BYTES_MAX`], so that the head and a small body of an answer leave in one packet; Pingora flushes.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::limits::ConnectionSlot;

/// One TCP segment's worth of answers is gathered before a write; more is written at once with what was gathered.
const WRITE_BYTES_MAX: usize = 4096;

/// How far past the budget of a head the stream reads: Pingora reads 4 KiB at a time, and a body may follow the head in
/// the same read. Pingora's caller measures the head itself; this bound only stops one that has no end.
const HEAD_SLACK_BYTES: usize = 64 * 1024;

/// How a head ended that did not come whole because of the client: it went away.
const GONE: u16 = 1;

/// The status that Pingora answers to what is no head.
const MALFORMED: u16 = 400;

/// What is known of a client's connection. Shared by its stream and the requests on it.
pub(crate) struct Connection {
    /// The other end of the socket: a client, or a proxy in front of us.
    pub(crate) peer: SocketAddr,
    /// Whether it is TLS.
    pub(crate) secure: bool,
    /// Counts beginnings and ends of heads: odd while the next bytes belong to a head.
    heads: AtomicU32,
    /// How a head ended that did not become a request: [`GONE`], or the status it was refused with. 0 before that.
    head_end: AtomicU16,
    head_bytes_max: usize,
    head_time_max: Duration,
    /// Given back when the connection, or the tunnel it became, ends.
    _slot: ConnectionSlot,
}

impl Connection {
    pub(crate) fn new(
        peer: SocketAddr,
        secure: bool,
        head_bytes_max: usize,
        head_time_max: Duration,
        slot: ConnectionSlot,
    ) -> Self {
        // A TLS handshake comes first, which has a deadline of its own.
        let heads = AtomicU32::new(0);
        let head_end = AtomicU16::new(0);
        Self { peer, secure, heads, head_end, head_bytes_max, head_time_max, _slot: slot }
    }

    /// The next bytes belong to a request's head.
    pub(crate) fn head_begins(&self) {
        self.heads.fetch_or(1, Ordering::Relaxed);
    }

    /// The head is complete: what follows is a body or a tunnel.
    pub(crate) fn head_ended(&self) {
        if self.is_in_head() {
            self.heads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The status that a request was refused with before it could be read, if that ended the connection.
    pub(crate) fn refused_unread(&self) -> Option<u16> {
        let end = self.head_end.load(Ordering::Relaxed);
        (self.is_in_head() && end > GONE).then_some(end)
    }

    fn is_in_head(&self) -> bool {
        self.heads.load(Ordering::Relaxed) % 2 == 1
    }

    /// A head ends otherwise than as a request. What is noted first is the reason of what follows.
    fn head_fails(&self, end: u16) {
        if self.is_in_head() {
            let _ = self.head_end.compare_exchange(0, end, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("peer", &self.peer).field("secure", &self.secure).finish()
    }
}

/// A client's TCP connection.
#[derive(Debug)]
pub(crate) struct ClientStream {
    tcp: TcpStream,
    gathered: Vec<u8>,
    connection: Arc<Connection>,
    digest: Arc<SocketDigest>,
    head: Head,
}

/// How far the head has come.
#[derive(Debug, Default)]
struct Head {
    number: u32,
    bytes: usize,
    /// Made when a head is incomplete and there is nothing more to read: most heads come in one read and need none.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(crate) fn new(tcp: TcpStream, connection: Arc<Connection>) -> Self {
        let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        // The cell is fresh, so that setting it cannot fail; it spares Pingora a `getpeername`.
        let _ = digest.peer_addr.set(Some(connection.peer.into()));
        Self { tcp, gathered: Vec::new(), connection, digest: Arc::new(digest), head: Head::default() }
    }

    /// The socket, and the connection that it counts for. The caller has flushed.
    pub(crate) fn into_parts(self) -> (TcpStream, Arc<Connection>) {
        (self.tcp, self.connection)
    }

    /// Watches a head after a read that brought `read` bytes, or none yet.
    fn watch_head(&mut self, cx: &mut Context<'_>, read: Option<usize>) -> Result<(), io::Error> {
        let number = self.connection.heads.load(Ordering::Relaxed);
        if number.is_multiple_of(2) {
            return Ok(());
        }
        if self.head.number != number {
            self.head = Head { number, ..Head::default() };
        }
        if let Some(read) = read {
            self.head.bytes += read;
            if self.head.bytes > self.connection.head_bytes_max.saturating_add(HEAD_SLACK_BYTES) {
                self.refuse(431, "Request Header Fields Too Large");
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of the request is too large"));
            }
        } else if self.head.bytes > 0 {
            let deadline = self.head.deadline.get_or_insert_with(|| Box::pin(sleep(self.connection.head_time_max)));
            if deadline.as_mut().poll(cx).is_ready() {
                self.refuse(408, "Request Timeout");
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the head of the request took too long"));
            }
        }
        Ok(())
    }

    /// Says goodbye where words can be understood; within TLS the bytes would only break the records.
    fn refuse(&self, status: u16, reason: &str) {
        self.connection.head_fails(status);
        if !self.connection.secure {
            let answer = format!("HTTP/1.1 {status} {reason}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            // Best effort: the connection ends either way.
            let _ = self.tcp.try_write(answer.as_bytes());
        }
    }

    /// Writes what was gathered, and `more` after it. Returns how many bytes of `more` were written; all of the
    /// gathered ones are then.
    fn poll_write_through(&mut self, cx: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let slices = [IoSlice::new(&self.gathered), IoSlice::new(more)];
            let written = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written >= self.gathered.len() {
                let of_more = written - self.gathered.len();
                self.gathered.clear();
                if of_more > 0 || more.is_empty() {
                    return Poll::Ready(Ok(of_more));
                }
            } else {
                self.gathered.drain(..written);
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.tcp).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let read = buf.filled().len() - before;
                if read == 0 {
                    self.connection.head_fails(GONE);
                }
                Poll::Ready(self.watch_head(cx, Some(read)))
            }
            Poll::Ready(Err(error)) => {
                self.connection.head_fails(GONE);
                Poll::Ready(Err(error))
            }
            Poll::Pending => match self.watch_head(cx, None) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + buf.len() <= WRITE_BYTES_MAX {
            self.gathered.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        self.poll_write_through(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() {
            ready!(self.poll_write_through(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Pingora shuts a connection down in a head when it cannot read it.
        if self.head.bytes > 0 && self.head.number == self.connection.heads.load(Ordering::Relaxed) {
            self.connection.head_fails(MALFORMED);
        }
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // A connection that cannot even be shut down is gone already.
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.tcp.as_raw_fd()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl Ssl for ClientStream {}

impl Peek for ClientStream {}
