//! RFC 6455 frames, written and read in place. A client's frames are masked, a server's are not.

use std::ops::Range;

use anyhow::{Result, bail, ensure};

/// The longest payload that is taken: far above what any scenario sends.
const PAYLOAD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => bail!("a frame has the unknown opcode {bits}"),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// A frame within a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: Opcode,
    pub(crate) is_final: bool,
    /// Where its payload lies.
    pub(crate) payload: Range<usize>,
    /// The masking key, of a client's frame.
    pub(crate) mask: Option<[u8; 4]>,
}

/// The frame that begins at `start`, or `None` when more bytes are needed.
pub(crate) fn parse(bytes: &[u8], start: usize) -> Result<Option<Frame>> {
    let Some(&[first, second]) = bytes.get(start..start + 2) else { return Ok(None) };
    ensure!(first & 0x70 == 0, "a frame uses an extension that nobody agreed on");
    let mut at = start + 2;
    let length = match second & 0x7F {
        126 => {
            let Some(&[high, low]) = bytes.get(at..at + 2) else { return Ok(None) };
            at += 2;
            u64::from(u16::from_be_bytes([high, low]))
        }
        127 => {
            let Some(Ok(length)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) else { return Ok(None) };
            at += 8;
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    };
    ensure!(length <= PAYLOAD_BYTES_MAX, "a frame of {length} bytes is too long");
    let mut mask = None;
    if second & 0x80 != 0 {
        let Some(Ok(key)) = bytes.get(at..at + 4).map(<[u8; 4]>::try_from) else { return Ok(None) };
        at += 4;
        mask = Some(key);
    }
    let payload = at..at + length as usize;
    if bytes.len() < payload.end {
        return Ok(None);
    }
    Ok(Some(Frame { opcode: Opcode::from_bits(first & 0x0F)?, is_final: first & 0x80 != 0, payload, mask }))
}

/// Appends a whole frame. With a `mask` it is a client's.
pub(crate) fn append(out: &mut Vec<u8>, opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) {
    append_head(out, opcode, mask, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key);
    }
}

fn append_head(out: &mut Vec<u8>, opcode: Opcode, mask: Option<[u8; 4]>, length: usize) {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode.bits());
    match length {
        0..=125 => out.push(mask_bit | length as u8),
        126..=0xFFFF => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// Masks or unmasks, eight bytes at a time: the tool masks everything that it sends.
pub(crate) fn apply_mask(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let masked =
            u64::from_ne_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]) ^ wide;
        word.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_parsed_back_whatever_its_length() {
        for length in [0, 1, 7, 125, 126, 127, 65_535, 65_536, 70_001] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let payload: Vec<u8> = (0..length).map(|index: usize| index as u8).collect();
                let mut bytes = vec![0xFF; 3];
                append(&mut bytes, Opcode::Binary, mask, &payload);
                let frame = parse(&bytes, 3).unwrap().unwrap();
                let mut parsed = bytes[frame.payload.clone()].to_vec();
                if let Some(key) = frame.mask {
                    apply_mask(&mut parsed, key);
                }
                assert_eq!((frame.opcode, frame.is_final, frame.mask), (Opcode::Binary, true, mask));
                assert_eq!(parsed, payload);
                assert_eq!(frame.payload.end, bytes.len());
            }
        }
    }

    #[test]
    fn every_beginning_of_a_frame_waits_for_more() {
        let mut bytes = Vec::new();
        append(&mut bytes, Opcode::Text, Some([9; 4]), &[b'x'; 300]);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end], 0).unwrap(), None, "{end} bytes");
        }
    }

    #[test]
    fn an_extension_bit_or_an_unknown_opcode_is_an_error() {
        assert!(parse(&[0xC2, 0], 0).is_err());
        assert!(parse(&[0x83, 0], 0).is_err());
    }
}
