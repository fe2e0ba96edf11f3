//! RFC 6455 frames, in.
//!
//! The bytes of one read lie in a buffer that all connections of a thread share. A frame that is whole in there is
//! unmasked in place and handed out as a slice of it; only what a read cut off is copied and kept. So a connection that
//! is idle has no buffer at all, and one that is busy allocates nothing per frame.

use std::borrow::Cow;
use std::io::Cursor;
use std::mem;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest head of a frame: 2 bytes, 8 of length, 4 of mask.
const HEAD_BYTES_MAX: usize = 14;

/// The longest payload of a control frame (RFC 6455, section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// How much is reserved for a payload before any of it has come: its announced length is only a claim.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// A message or control frame of the peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// A text message. Whether it is UTF-8 is for its reader to see.
    Text(Cow<'a, [u8]>),
    Binary(Cow<'a, [u8]>),
    /// Answer it with a pong of the same payload.
    Ping(Cow<'a, [u8]>),
    Pong,
    Close,
}

/// How the peer broke RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameFault {
    #[error("malformed frame")]
    Malformed,
    #[error("a frame without a mask")]
    Unmasked,
    #[error("a message over the bound")]
    TooLarge,
}

/// Reads frames out of chunks that end anywhere.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    /// A head that a chunk cut off.
    head: [u8; HEAD_BYTES_MAX],
    head_length: usize,
    /// A frame whose payload a chunk cut off.
    partial: Option<Box<Partial>>,
    /// The message that fragments are collected for.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Partial {
    frame: Frame,
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Fragments {
    is_text: bool,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    length: usize,
}

impl FrameReader {
    /// Takes the next message off the front of `chunk`. `None` when the chunk is used up. After a fault the connection
    /// is to be closed.
    pub(super) fn next<'a>(
        &mut self,
        chunk: &mut &'a mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Incoming<'a>>, FrameFault> {
        loop {
            let (frame, payload) = match self.partial.take() {
                Some(partial) => match continue_payload(partial, chunk) {
                    Ok((frame, payload)) => (frame, Cow::Owned(payload)),
                    Err(partial) => {
                        self.partial = Some(partial);
                        return Ok(None);
                    }
                },
                None => {
                    let Some(frame) = self.next_head(chunk, message_bytes_max)? else { return Ok(None) };
                    if chunk.len() < frame.length {
                        let start = mem::take(chunk);
                        self.partial = Some(Box::new(Partial::begin(frame, start)));
                        return Ok(None);
                    }
                    let payload = split_off(chunk, frame.length);
                    unmask(payload, frame.mask);
                    (frame, Cow::Borrowed(&*payload))
                }
            };
            if let Some(incoming) = self.assemble(frame, payload, message_bytes_max)? {
                return Ok(Some(incoming));
            }
        }
    }

    fn next_head(&mut self, chunk: &mut &mut [u8], message_bytes_max: usize) -> Result<Option<Frame>, FrameFault> {
        if self.head_length == 0 {
            if let Some((frame, length)) = parse_head(chunk, message_bytes_max)? {
                split_off(chunk, length);
                return Ok(Some(frame));
            }
            // Fewer bytes than a head has.
            let rest = mem::take(chunk);
            self.head[..rest.len()].copy_from_slice(rest);
            self.head_length = rest.len();
            return Ok(None);
        }
        let had = self.head_length;
        let added = chunk.len().min(HEAD_BYTES_MAX - had);
        self.head[had..had + added].copy_from_slice(&chunk[..added]);
        if let Some((frame, length)) = parse_head(&self.head[..had + added], message_bytes_max)? {
            self.head_length = 0;
            split_off(chunk, length - had);
            return Ok(Some(frame));
        }
        self.head_length += added;
        split_off(chunk, added);
        Ok(None)
    }

    /// Makes a message of a frame, or keeps it as a fragment of one.
    fn assemble<'a>(
        &mut self,
        frame: Frame,
        payload: Cow<'a, [u8]>,
        message_bytes_max: usize,
    ) -> Result<Option<Incoming<'a>>, FrameFault> {
        let is_text = match frame.opcode {
            OpCode::Control(Control::Ping) => return Ok(Some(Incoming::Ping(payload))),
            OpCode::Control(Control::Pong) => return Ok(Some(Incoming::Pong)),
            OpCode::Control(_) => return Ok(Some(Incoming::Close)),
            OpCode::Data(Data::Continue) => return self.continue_message(frame, &payload, message_bytes_max),
            OpCode::Data(data) => data == Data::Text,
        };
        if self.fragments.is_some() {
            return Err(FrameFault::Malformed);
        }
        if frame.is_final {
            return Ok(Some(if is_text { Incoming::Text(payload) } else { Incoming::Binary(payload) }));
        }
        self.fragments = Some(Box::new(Fragments { is_text, payload: payload.into_owned() }));
        Ok(None)
    }

    fn continue_message<'a>(
        &mut self,
        frame: Frame,
        payload: &[u8],
        message_bytes_max: usize,
    ) -> Result<Option<Incoming<'a>>, FrameFault> {
        let mut message = self.fragments.take().ok_or(FrameFault::Malformed)?;
        if message.payload.len() + payload.len() > message_bytes_max {
            return Err(FrameFault::TooLarge);
        }
        message.payload.extend_from_slice(payload);
        if !frame.is_final {
            self.fragments = Some(message);
            return Ok(None);
        }
        let payload = Cow::Owned(message.payload);
        Ok(Some(if message.is_text { Incoming::Text(payload) } else { Incoming::Binary(payload) }))
    }
}

impl Partial {
    fn begin(frame: Frame, start: &[u8]) -> Self {
        let mut payload = Vec::with_capacity(frame.length.min(RESERVE_BYTES_MAX).max(start.len()));
        payload.extend_from_slice(start);
        Self { frame, payload }
    }
}

/// Adds to a payload what the chunk has of it; gives it back if that is not all.
fn continue_payload(mut partial: Box<Partial>, chunk: &mut &mut [u8]) -> Result<(Frame, Vec<u8>), Box<Partial>> {
    let missing = partial.frame.length - partial.payload.len();
    let taken = split_off(chunk, missing.min(chunk.len()));
    partial.payload.extend_from_slice(taken);
    if partial.payload.len() < partial.frame.length {
        return Err(partial);
    }
    unmask(&mut partial.payload, partial.frame.mask);
    Ok((partial.frame, partial.payload))
}

/// Reads a head and its length; `None` if it is not whole.
fn parse_head(bytes: &[u8], message_bytes_max: usize) -> Result<Option<(Frame, usize)>, FrameFault> {
    let mut cursor = Cursor::new(bytes);
    let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| FrameFault::Malformed)? else {
        return Ok(None);
    };
    let is_control = matches!(header.opcode, OpCode::Control(_));
    let has_extensions = header.rsv1 || header.rsv2 || header.rsv3;
    if has_extensions || (is_control && (!header.is_final || length > CONTROL_BYTES_MAX)) {
        return Err(FrameFault::Malformed);
    }
    let mask = header.mask.ok_or(FrameFault::Unmasked)?;
    let length =
        usize::try_from(length).ok().filter(|length| *length <= message_bytes_max).ok_or(FrameFault::TooLarge)?;
    let frame = Frame { opcode: header.opcode, is_final: header.is_final, mask, length };
    // A head has at most 14 bytes.
    Ok(Some((frame, cursor.position() as usize)))
}

fn split_off<'a>(chunk: &mut &'a mut [u8], length: usize) -> &'a mut [u8] {
    let (front, rest) = mem::take(chunk).split_at_mut(length);
    *chunk = rest;
    front
}

/// RFC 6455, section 5.3. Eight bytes at a time, which the compiler widens further.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let wide = u64::from(word) | u64::from(word) << 32;
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// What holds for any bytes of a client, its first two saying where reads end: it does not matter where they do, no
/// message is longer than the bound, and of a frame that is not whole no more is kept than has come.
#[cfg(any(test, fuzzing))]
pub(crate) fn hold_for(bytes: &[u8]) {
    const BYTES_MAX: usize = 300;
    let Some((&[cut, size], frames)) = bytes.split_first_chunk() else { return };
    let (first, rest) = frames.split_at(usize::from(cut).min(frames.len()));
    let read = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut messages) = (FrameReader::default(), Vec::new());
        for chunk in chunks {
            let mut chunk = chunk.to_vec();
            let mut rest = &mut chunk[..];
            loop {
                match reader.next(&mut rest, BYTES_MAX) {
                    Ok(Some(incoming)) => messages.push(format!("{incoming:?}")),
                    Ok(None) => break,
                    Err(fault) => return (messages, Some(fault)),
                }
            }
            assert!(rest.is_empty());
            let partial = reader.partial.as_ref().map_or(0, |partial| partial.payload.len());
            let fragments = reader.fragments.as_ref().map_or(0, |fragments| fragments.payload.len());
            assert!(partial <= BYTES_MAX && fragments <= BYTES_MAX && partial + fragments <= frames.len());
        }
        (messages, None)
    };
    let whole = read(&mut [frames].into_iter());
    assert_eq!(read(&mut [first, rest].into_iter()), whole);
    assert_eq!(read(&mut frames.chunks(usize::from(size).max(1))), whole);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_testing::hostile;
    use proptest::prelude::*;

    const BYTES_MAX: usize = 100_000;

    /// A masked frame, written by hand.
    fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![first_byte];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// Reads `bytes` in chunks of `size`.
    fn read(bytes: &[u8], size: usize) -> Result<Vec<Incoming<'static>>, FrameFault> {
        let mut reader = FrameReader::default();
        let mut found = Vec::new();
        for chunk in bytes.chunks(size) {
            let mut chunk = chunk.to_vec();
            let mut rest = &mut chunk[..];
            while let Some(incoming) = reader.next(&mut rest, BYTES_MAX)? {
                found.push(match incoming {
                    Incoming::Text(payload) => Incoming::Text(Cow::Owned(payload.into_owned())),
                    Incoming::Binary(payload) => Incoming::Binary(Cow::Owned(payload.into_owned())),
                    Incoming::Ping(payload) => Incoming::Ping(Cow::Owned(payload.into_owned())),
                    Incoming::Pong => Incoming::Pong,
                    Incoming::Close => Incoming::Close,
                });
            }
            assert!(rest.is_empty());
        }
        Ok(found)
    }

    fn check(frames: &[Vec<u8>], expected: Result<Vec<Incoming<'static>>, FrameFault>) {
        let bytes = frames.concat();
        for size in [1, 2, 3, 7, 64, bytes.len().max(1)] {
            assert_eq!(read(&bytes, size), expected, "in chunks of {size}");
        }
    }

    fn text(payload: &str) -> Incoming<'static> {
        Incoming::Text(Cow::Owned(payload.as_bytes().to_vec()))
    }

    fn binary(payload: &[u8]) -> Incoming<'static> {
        Incoming::Binary(Cow::Owned(payload.to_vec()))
    }

    #[test]
    fn frames_are_read_wherever_the_chunks_end() {
        let long = vec![7; 70_000];
        let middle = vec![9; 300];
        check(
            &[frame(0x81, b"2probe"), frame(0x82, &long), frame(0x82, b""), frame(0x82, &middle), frame(0x81, b"5")],
            Ok(vec![text("2probe"), binary(&long), binary(b""), binary(&middle), text("5")]),
        );
    }

    #[test]
    fn fragments_make_one_message_with_control_frames_between_them() {
        check(
            &[frame(0x01, b"ab"), frame(0x89, b"hi"), frame(0x00, b"cd"), frame(0x8a, b""), frame(0x80, b"ef")],
            Ok(vec![Incoming::Ping(Cow::Owned(b"hi".to_vec())), Incoming::Pong, text("abcdef")]),
        );
        check(&[frame(0x88, &[3, 232])], Ok(vec![Incoming::Close]));
    }

    #[test]
    fn what_breaks_the_rules_is_a_fault() {
        let malformed = || Err(FrameFault::Malformed);
        check(&[frame(0xc1, b"reserved bit")], malformed());
        check(&[frame(0x83, b"opcode")], malformed());
        check(&[frame(0x8b, b"opcode")], malformed());
        check(&[frame(0x09, b"fragmented ping")], malformed());
        check(&[frame(0x89, &[0; 126])], malformed());
        check(&[frame(0x80, b"nothing to continue")], malformed());
        check(&[frame(0x01, b"a"), frame(0x81, b"b")], malformed());
        check(&[vec![0x81, 0x01, b'a']], Err(FrameFault::Unmasked));
        check(&[frame(0x82, &vec![0; BYTES_MAX + 1])], Err(FrameFault::TooLarge));
        check(&[frame(0x02, &vec![0; BYTES_MAX]), frame(0x80, b"x")], Err(FrameFault::TooLarge));
        check(
            &[vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]],
            Err(FrameFault::TooLarge),
        );
    }

    #[test]
    fn no_bytes_break_the_reader() {
        hostile::check("frames", hold_for);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_chunks_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 1..400), size in 1..50usize) {
            prop_assert_eq!(read(&bytes, size), read(&bytes, bytes.len()));
        }

        #[test]
        fn messages_are_read_as_they_were_sent(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6),
            size in 1..500usize,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x82, payload)).collect();
            let expected: Vec<_> = payloads.iter().map(|payload| binary(payload)).collect();
            prop_assert_eq!(read(&bytes, size), Ok(expected));
        }
    }
}
