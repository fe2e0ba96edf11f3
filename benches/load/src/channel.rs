//! A WebSocket as the scenarios use it: whoever has something to say queues frames and flushes; one future per connection reads.
//!
//! Writing does not wait for that future: a flush tries the socket at once, and only what did not fit is left to it.
//! All channels of a run share one read buffer, because the tool runs on a single thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::endpoint::Endpoint;
use crate::frame::{self, Opcode};
use crate::http1::Http1;
use crate::stream::Stream;

/// Any key but zero makes a server unmask; it needs no secrecy against a test server.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x96, 0x0F];

/// One read takes up to this much.
const READ_BYTES: usize = 256 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// An open WebSocket.
pub(crate) struct Channel {
    stream: RefCell<Stream>,
    /// Queued and not yet written.
    out: RefCell<Vec<u8>>,
    /// Of the reading future; a write that did not fit registers it for writability.
    waker: RefCell<Waker>,
    /// The beginning of a frame whose rest has not come.
    partial: RefCell<Vec<u8>>,
    /// The beginning of a message in several frames.
    fragments: RefCell<Option<(Opcode, Vec<u8>)>>,
    is_open: Cell<bool>,
    /// Which node answered the upgrade, when it says so.
    pub(crate) node: String,
}

/// What a reader hears.
pub(crate) enum Event<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    /// All that one read brought has been handed out.
    BatchEnd,
}

impl Channel {
    /// Opens a WebSocket at `path` with the given extra headers.
    pub(crate) async fn open(endpoint: &Endpoint, path: &str, headers: &str, node_header: &str) -> Result<Self> {
        let stream = endpoint.connect().await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
            endpoint.authority
        );
        let (stream, early, node) = Http1::new(stream, node_header).upgrade(request.as_bytes()).await?;
        Ok(Self {
            stream: RefCell::new(stream),
            out: RefCell::default(),
            waker: RefCell::new(Waker::noop().clone()),
            partial: RefCell::new(early),
            fragments: RefCell::default(),
            is_open: Cell::new(true),
            node,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Queues a frame; [`Self::flush`] sends it.
    pub(crate) fn queue(&self, opcode: Opcode, payload: &[u8]) {
        frame::append(&mut self.out.borrow_mut(), opcode, Some(MASK), payload);
    }

    /// Writes what is queued, as far as the socket takes it. Errors show at the reader.
    pub(crate) fn flush(&self) {
        let waker = self.waker.borrow().clone();
        let _ = self.poll_write(&mut Context::from_waker(&waker));
    }

    /// Says goodbye and goes on reading until the other side has closed too: what was queued before still arrives.
    pub(crate) fn close(&self) {
        self.queue(Opcode::Close, &[]);
        self.flush();
    }

    /// Writes what is queued, to the end. For a channel whose reader has ended politely.
    pub(crate) async fn finish(&self) {
        // A server that is gone takes nothing more, which its reader has noticed already.
        let _ = poll_fn(|context| self.poll_write(context)).await;
    }

    /// Reads until the other side closes, and hands every message to `on_event`. Pings are answered.
    pub(crate) async fn run(&self, mut on_event: impl FnMut(Event<'_>)) -> Result<()> {
        let early = std::mem::take(&mut *self.partial.borrow_mut());
        let mut result = self.consume(&early, &mut on_event);
        while result.is_ok() && self.is_open() {
            result = poll_fn(|context| self.poll_read(context, &mut on_event)).await;
        }
        self.is_open.set(false);
        result
    }

    fn poll_read(&self, context: &mut Context<'_>, on_event: &mut impl FnMut(Event<'_>)) -> Poll<Result<()>> {
        self.waker.borrow_mut().clone_from(context.waker());
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            return Poll::Ready(Err(error.into()));
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            match Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(result) => result.context("cannot read")?,
            }
            if read.filled().is_empty() {
                self.is_open.set(false);
                return Poll::Ready(Ok(()));
            }
            let received = read.filled();
            let mut partial = std::mem::take(&mut *self.partial.borrow_mut());
            if partial.is_empty() {
                self.consume(received, on_event)?;
            } else {
                partial.extend_from_slice(received);
                self.consume(&partial, on_event)?;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Hands out the messages in `bytes` and keeps an incomplete rest.
    fn consume(&self, bytes: &[u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<()> {
        let mut start = 0;
        while let Some(frame) = frame::parse(bytes, start)? {
            start = frame.payload.end;
            ensure!(frame.mask.is_none(), "the server masks its frames");
            let payload = &bytes[frame.payload];
            match frame.opcode {
                Opcode::Ping => self.queue(Opcode::Pong, payload),
                Opcode::Pong => {}
                Opcode::Close => {
                    self.queue(Opcode::Close, payload);
                    self.is_open.set(false);
                }
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    self.assemble(frame.opcode, frame.is_final, payload, on_event);
                }
            }
        }
        if start < bytes.len() {
            self.partial.borrow_mut().extend_from_slice(&bytes[start..]);
        }
        on_event(Event::BatchEnd);
        self.flush();
        Ok(())
    }

    fn assemble(&self, opcode: Opcode, is_final: bool, payload: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let mut fragments = self.fragments.borrow_mut();
        match (fragments.take(), is_final) {
            (None, true) => hand_out(opcode, payload, on_event),
            (None, false) => *fragments = Some((opcode, payload.to_vec())),
            (Some((opcode, mut message)), _) => {
                message.extend_from_slice(payload);
                if is_final {
                    hand_out(opcode, &message, on_event);
                } else {
                    *fragments = Some((opcode, message));
                }
            }
        }
    }

    fn poll_write(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.out.borrow_mut();
        if out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut stream = self.stream.borrow_mut();
        let mut written = 0;
        let result = loop {
            if written == out.len() {
                break Pin::new(&mut *stream).poll_flush(context);
            }
            match Pin::new(&mut *stream).poll_write(context, &out[written..]) {
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        out.drain(..written);
        result
    }
}

fn hand_out(opcode: Opcode, payload: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
    match opcode {
        Opcode::Text => on_event(Event::Text(payload)),
        _ => on_event(Event::Binary(payload)),
    }
}
