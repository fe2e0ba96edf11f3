//! The MessagePack primitives that the relay needs (<https://github.com/msgpack/msgpack/blob/master/spec.md>): a reader
//! that walks over values without building them, and a few writers.
//!
//! The reader is stricter than the specification. Receivers decode with msgpackr, which gives meanings of its own to
//! extension types (records, references, bundled strings) and to the byte `0xc1`: behind one of those, it and we would
//! disagree about where a value ends, and a sender could smuggle an `origin` past us. None of them occurs in what the
//! protocol sends, except type 0, which is `undefined`. Encrypted contents are opaque bytes and not concerned.

use crate::head::Malformed;

/// How deep maps and arrays may nest. The deepest of the protocol, the keys of a message, is four.
pub const DEPTH_MAX: usize = 16;

/// The extension type by which msgpackr says `undefined`.
const EXT_UNDEFINED: u8 = 0;

/// A value, as far as its first bytes tell it. Lengths of texts, bytes and numbers count what is still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A map of this many pairs.
    Map(u32),
    /// An array of this many values.
    Array(u32),
    /// A text of this many bytes.
    Str(u32),
    /// This many opaque bytes.
    Bin(u32),
    /// A number in this many bytes, or in none that follow.
    Number(u32),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Nil,
    /// `undefined`, in this many bytes.
    Undefined(u32),
}

impl Item {
    /// How many bytes follow that belong to this item alone, and how many values that are its parts.
    fn rest(self) -> (u32, u64) {
        match self {
            Self::Map(pairs) => (0, 2 * u64::from(pairs)),
            Self::Array(values) => (0, u64::from(values)),
            Self::Str(bytes) | Self::Bin(bytes) | Self::Number(bytes) | Self::Undefined(bytes) => (bytes, 0),
            Self::Bool(_) | Self::Nil => (0, 0),
        }
    }
}

/// Walks over the values of a message. Cheap to clone, to look ahead.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether everything has been read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Reads the first bytes of the next value: of a text, say, its length.
    #[inline]
    pub fn item(&mut self) -> Result<Item, Malformed> {
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f | 0xe0..=0xff => Item::Number(0),
            0x80..=0x8f => Item::Map(u32::from(marker & 0x0f)),
            0x90..=0x9f => Item::Array(u32::from(marker & 0x0f)),
            0xa0..=0xbf => Item::Str(u32::from(marker & 0x1f)),
            0xc0 => Item::Nil,
            0xc1 => return Err(Malformed::Reserved),
            0xc2 | 0xc3 => Item::Bool(marker == 0xc3),
            0xc4 => Item::Bin(self.length(1)?),
            0xc5 => Item::Bin(self.length(2)?),
            0xc6 => Item::Bin(self.length(4)?),
            0xc7 => self.extension_of_length(1)?,
            0xc8 => self.extension_of_length(2)?,
            0xc9 => self.extension_of_length(4)?,
            0xca | 0xce | 0xd2 => Item::Number(4),
            0xcb | 0xcf | 0xd3 => Item::Number(8),
            0xcc | 0xd0 => Item::Number(1),
            0xcd | 0xd1 => Item::Number(2),
            0xd4..=0xd8 => self.extension(1 << (marker - 0xd4))?,
            0xd9 => Item::Str(self.length(1)?),
            0xda => Item::Str(self.length(2)?),
            0xdb => Item::Str(self.length(4)?),
            0xdc => Item::Array(self.length(2)?),
            0xdd => Item::Array(self.length(4)?),
            0xde => Item::Map(self.length(2)?),
            0xdf => Item::Map(self.length(4)?),
        })
    }

    /// Reads a whole value and forgets it.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        let item = self.item()?;
        self.skip_rest(item)
    }

    /// Reads what belongs to an item whose first bytes were read.
    #[inline]
    pub fn skip_rest(&mut self, item: Item) -> Result<(), Malformed> {
        let (bytes, parts) = item.rest();
        self.take(bytes)?;
        if parts == 0 { Ok(()) } else { self.skip_parts(parts) }
    }

    /// Reads `parts` values. Keeps how many are left on each level, so that no stranger sizes our stack.
    fn skip_parts(&mut self, parts: u64) -> Result<(), Malformed> {
        let mut left = [0_u64; DEPTH_MAX];
        let mut depth = 0;
        left[0] = parts;
        loop {
            while left[depth] == 0 {
                match depth.checked_sub(1) {
                    Some(outer) => depth = outer,
                    None => return Ok(()),
                }
            }
            left[depth] -= 1;
            let (bytes, parts) = self.item()?.rest();
            self.take(bytes)?;
            if parts > 0 {
                depth += 1;
                *left.get_mut(depth).ok_or(Malformed::TooDeep)? = parts;
            }
        }
    }

    /// Reads a map's head: how many pairs follow.
    pub fn map(&mut self) -> Result<u32, Malformed> {
        match self.item()? {
            Item::Map(pairs) => Ok(pairs),
            _ => Err(Malformed::Unexpected),
        }
    }

    /// Reads a text as bytes.
    #[inline]
    pub fn str_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match self.item()? {
            Item::Str(length) => self.take(length),
            _ => Err(Malformed::Unexpected),
        }
    }

    /// Reads a text.
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.str_bytes()?).map_err(|_| Malformed::NotUtf8)
    }

    /// Reads `length` bytes.
    #[inline]
    pub fn take(&mut self, length: u32) -> Result<&'a [u8], Malformed> {
        let end = self.at + length as usize;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn length(&mut self, bytes: u32) -> Result<u32, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |length, byte| length << 8 | u32::from(*byte)))
    }

    fn extension_of_length(&mut self, bytes: u32) -> Result<Item, Malformed> {
        let length = self.length(bytes)?;
        self.extension(length)
    }

    fn extension(&mut self, length: u32) -> Result<Item, Malformed> {
        if self.byte()? == EXT_UNDEFINED { Ok(Item::Undefined(length)) } else { Err(Malformed::Extension) }
    }
}

/// Writes a map's head; `pairs` keys and values are to follow.
pub fn write_map(out: &mut Vec<u8>, pairs: u32) {
    write_head(out, pairs, 0x80, 0x0f, 0xde);
}

/// Writes an array's head; `values` are to follow.
pub fn write_array(out: &mut Vec<u8>, values: u32) {
    write_head(out, values, 0x90, 0x0f, 0xdc);
}

/// The shortest head that holds `length`: in the marker itself, or in the two or four bytes after it.
fn write_head(out: &mut Vec<u8>, length: u32, small: u8, small_max: u8, wide: u8) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length <= small_max => out.push(small | length),
        (_, Ok(length)) => {
            out.push(wide);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(wide + 1);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Writes a text. Nothing that we write reaches 4 GiB; a longer text would be cut.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    match u8::try_from(length) {
        Ok(length) if length > 0x1f => out.extend_from_slice(&[0xd9, length]),
        _ => write_head(out, length, 0xa0, 0x1f, 0xda),
    }
    out.extend_from_slice(&text.as_bytes()[..length as usize]);
}

/// Writes `true` or `false`.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}
