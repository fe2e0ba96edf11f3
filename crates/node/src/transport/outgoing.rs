//! RFC 6455 frames, out.
//!
//! Everything that is pending goes out in one system call. Small payloads are copied into a buffer that all connections
//! of a thread share; large ones are written from where they lie. Only what the socket does not take is kept.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use ctedge_socketio::Sink;
use tokio::io::AsyncWrite;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// From here on a payload is worth a slice of its own in the system call rather than a copy.
const LARGE_BYTES: usize = 16 * 1024;

/// Slices of one system call; the kernel takes 1024, and we rarely have more than a handful.
const SLICES_MAX: usize = 64;

/// The longest reason in a close frame: 125 bytes less the code (RFC 6455, section 5.5).
const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Frames on their way into one write.
#[derive(Debug, Default)]
pub(super) struct Batch {
    copied: Vec<u8>,
    /// Large payloads, each with the place in `copied` before which it belongs.
    large: Vec<(usize, Bytes)>,
}

/// What the socket did not take.
#[derive(Debug, Default)]
pub(super) struct Unwritten(VecDeque<Bytes>);

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.copied.is_empty() && self.large.is_empty()
    }

    /// Empties the batch and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.copied.clear();
        self.large.clear();
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.head(OpCode::Control(Control::Pong), payload.len());
        self.copied.extend_from_slice(payload);
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
        self.head(OpCode::Control(Control::Close), 2 + reason.len());
        self.copied.extend_from_slice(&u16::from(code).to_be_bytes());
        self.copied.extend_from_slice(reason.as_bytes());
    }

    fn head(&mut self, opcode: OpCode, length: usize) {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        // Writing into memory cannot fail.
        let _ = header.format(length as u64, &mut self.copied);
    }

    /// Its parts in order.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut copied_to = 0;
        let mut large = self.large.iter();
        let mut pending: Option<&Bytes> = None;
        std::iter::from_fn(move || {
            if let Some(data) = pending.take() {
                return Some(Part::Large(data));
            }
            let from = copied_to;
            match large.next() {
                Some((to, data)) => {
                    copied_to = *to;
                    pending = Some(data);
                    Some(Part::Copied(&self.copied[from..*to]))
                }
                None if from < self.copied.len() => {
                    copied_to = self.copied.len();
                    Some(Part::Copied(&self.copied[from..]))
                }
                None => None,
            }
        })
    }
}

enum Part<'a> {
    Copied(&'a [u8]),
    Large(&'a Bytes),
}

impl Part<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied(slice) => slice,
            Self::Large(data) => data,
        }
    }

    fn to_bytes(&self, skipped: usize) -> Bytes {
        match self {
            Self::Copied(slice) => Bytes::copy_from_slice(&slice[skipped..]),
            Self::Large(data) => data.slice(skipped..),
        }
    }
}

impl Sink for Batch {
    fn text(&mut self, parts: &[&[u8]]) {
        self.head(OpCode::Data(Data::Text), parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.copied.extend_from_slice(part);
        }
    }

    fn binary(&mut self, data: &Bytes) {
        self.head(OpCode::Data(Data::Binary), data.len());
        if data.len() < LARGE_BYTES {
            self.copied.extend_from_slice(data);
        } else {
            self.large.push((self.copied.len(), data.clone()));
        }
    }
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes what was left. Ready when nothing is.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
    ) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let written = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let mut count = 0;
                for (slice, data) in slices.iter_mut().zip(&self.0) {
                    *slice = IoSlice::new(data);
                    count += 1;
                }
                ready!(stream.as_mut().poll_write_vectored(cx, &slices[..count]))?
            };
            self.take_off(written)?;
        }
        self.0 = VecDeque::new();
        Poll::Ready(Ok(()))
    }

    /// Writes a batch; keeps what the socket does not take. Call it only when nothing was left before. Ready when
    /// nothing is left after it.
    pub(super) fn poll_write_batch(
        &mut self,
        cx: &mut Context<'_>,
        mut stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
        batch: &Batch,
    ) -> Poll<io::Result<()>> {
        debug_assert!(self.is_empty(), "what was left goes first");
        let attempt = if batch.large.is_empty() {
            stream.as_mut().poll_write(cx, &batch.copied)
        } else {
            let parts: Vec<Part<'_>> = batch.parts().take(SLICES_MAX).collect();
            let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part.as_slice())).collect();
            stream.as_mut().poll_write_vectored(cx, &slices)
        };
        let mut written = match attempt {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => 0,
        };
        for part in batch.parts() {
            let length = part.as_slice().len();
            if written >= length {
                written -= length;
            } else {
                self.0.push_back(part.to_bytes(written));
                written = 0;
            }
        }
        if self.is_empty() { Poll::Ready(Ok(())) } else { self.poll_write(cx, stream) }
    }

    fn take_off(&mut self, mut written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(front) = self.0.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.0.pop_front();
        }
        Ok(())
    }
}
