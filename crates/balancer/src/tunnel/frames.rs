//! Where WebSocket frames end (RFC 6455, section 5.2), seen from bytes that pass by.
//!
//! The balancer does not read frames; it only has to know when it may put a close frame of its own between two of the
//! node's. Everything here is a few bytes of state and looks at frame heads alone.

use bytes::Bytes;
use ctedge_wire::SEND_AWAY;

/// The longest head of a frame: two bytes, eight of length, four of a mask.
const HEAD_BYTES_MAX: usize = 14;

/// An unmasked close frame with the code 1001, going away (RFC 6455, sections 5.5.1 and 7.4.1).
pub(super) const CLOSE_GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xE9];

/// The ping of a client that asks its node to send it away (RFC 6455, sections 5.1 and 5.5.2). The mask is zero: masks guard
/// against what scripts in browsers say.
pub(super) fn send_away() -> Bytes {
    const PAYLOAD_BYTES: u8 = SEND_AWAY.len() as u8;
    const { assert!(SEND_AWAY.len() < 126, "the payload of a control frame is short") }
    [&[0x89, 0x80 | PAYLOAD_BYTES, 0, 0, 0, 0], SEND_AWAY].concat().into()
}

/// Follows one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    /// Bytes of the frame's payload that are still to come.
    payload_bytes: u64,
}

impl Frames {
    /// Takes note of bytes that were passed on.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_bytes > 0 {
                let passed = usize::try_from(self.payload_bytes).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_bytes -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.head[usize::from(self.head_bytes)] = bytes[0];
            self.head_bytes += 1;
            bytes = &bytes[1..];
            if let Some(payload_bytes) = payload_after(&self.head[..usize::from(self.head_bytes)]) {
                self.payload_bytes = payload_bytes;
                self.head_bytes = 0;
            }
        }
    }

    /// Whether everything passed so far is whole frames.
    pub(super) fn between(&self) -> bool {
        self.head_bytes == 0 && self.payload_bytes == 0
    }
}

/// The length of the payload, once the head is complete.
fn payload_after(head: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = head else { return None };
    let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
    let (length_bytes, short) = match second & 0x7F {
        126 => (2, 0),
        127 => (8, 0),
        length => (0, u64::from(length)),
    };
    if rest.len() < length_bytes + mask_bytes {
        return None;
    }
    Some(rest[..length_bytes].iter().fold(short, |length, byte| length << 8 | u64::from(*byte)))
}

/// What holds for any bytes of a node, their first saying how they are cut: how they come does not matter.
#[cfg(any(test, fuzzing))]
pub(crate) fn hold_for(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (mut whole, mut cut) = (Frames::default(), Frames::default());
    whole.pass(bytes);
    for part in bytes.chunks(usize::from(*size).max(1)) {
        cut.pass(part);
    }
    assert_eq!((whole.head_bytes, whole.payload_bytes), (cut.head_bytes, cut.payload_bytes));
    assert!(usize::from(whole.head_bytes) < HEAD_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_testing::hostile;

    #[test]
    fn no_bytes_break_the_count_of_frames() {
        hostile::check("passing", hold_for);
    }

    /// Passes `frame` in every way it can be cut in two, and byte by byte; it must end at its end and nowhere before.
    fn check(frame: &[u8]) {
        for cut in 1..frame.len() {
            let mut frames = Frames::default();
            frames.pass(&frame[..cut]);
            assert!(!frames.between(), "cut at {cut} of {}", frame.len());
            frames.pass(&frame[cut..]);
            assert!(frames.between(), "cut at {cut} of {}", frame.len());
        }
        let mut frames = Frames::default();
        frames.pass(&[frame, frame].concat());
        assert!(frames.between());
    }

    fn frame(head: &[u8], payload_bytes: usize) -> Vec<u8> {
        [head, &vec![b'x'; payload_bytes]].concat()
    }

    #[test]
    fn frames_of_every_length_form_end_where_they_end() {
        check(&frame(&[0x82, 0], 0));
        check(&frame(&[0x82, 125], 125));
        check(&frame(&[0x82, 126, 1, 0], 256));
        check(&frame(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1], 65537));
        check(&frame(&[0x82, 0x85, 1, 2, 3, 4], 5));
        check(&frame(&[0x82, 0xFE, 0, 200, 1, 2, 3, 4], 200));
        check(&CLOSE_GOING_AWAY);
        check(&send_away());
    }

    #[test]
    fn an_absurd_length_is_followed_without_overflow() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255]);
        frames.pass(&[0; 1000]);
        assert!(!frames.between());
    }
}
