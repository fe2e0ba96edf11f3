//! Broadcasts on the wire: made once as a template and stamped for each sending; read in place on arrival.
//!
//! What a stamped message carries in the place of encrypted content: who sent it, its number, when it was due, and a filling
//! that no server can compress or guess.

use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};
use rmpv::Value;

/// Sender (4), number (8), due time (8).
pub(crate) const STAMP_BYTES: usize = 20;

/// The version of the protocol that the messages claim.
const PROTOCOL_VERSION: &str = "0.3.1";

/// The content of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The index of the sending peer in the run.
    pub(crate) sender: u32,
    /// Counts the sender's messages from 0.
    pub(crate) number: u64,
    /// When it was due, in nanoseconds after the start of the run.
    pub(crate) due_ns: u64,
}

impl Stamp {
    fn write(self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.sender.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.number.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.due_ns.to_be_bytes());
    }

    /// `None` when the content is too short to carry one.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        Some(Self {
            sender: u32::from_be_bytes(content.get(..4)?.try_into().ok()?),
            number: u64::from_be_bytes(content.get(4..12)?.try_into().ok()?),
            due_ns: u64::from_be_bytes(content.get(12..20)?.try_into().ok()?),
        })
    }
}

/// A sender's broadcast, complete but for its stamp.
pub(crate) struct Template {
    bytes: Vec<u8>,
    content_at: usize,
}

impl Template {
    /// A broadcast to `targets`, with `content` and a wrapped key of `key_bytes` for each of them.
    pub(crate) fn new(targets: &[&str], key_bytes: usize, content: &[u8]) -> Result<Self> {
        let keys = targets.iter().map(|target| {
            let wrapped = random_text(target, key_bytes);
            map([("target", (*target).into()), ("key", wrapped.into()), ("iv", random_text("iv", 24).into())])
        });
        let metadata = map([
            ("encryption", map([("keys", Value::Array(keys.collect()))])),
            ("compression", map([("algorithm", "none".into())])),
        ]);
        let message = map([
            ("version", PROTOCOL_VERSION.into()),
            ("kind", "broadcast".into()),
            ("origin", "".into()),
            ("metadata", metadata),
            ("content", Value::Binary(content.to_vec())),
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &message)?;
        // The content is the last field, so its bytes are the last of the message.
        let content_at = bytes.len() - content.len();
        Ok(Self { bytes, content_at })
    }

    /// The message of this stamp.
    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        stamp.write(&mut self.bytes[self.content_at..]);
        &self.bytes
    }
}

/// What the hot path needs of a message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arrival<'a> {
    pub(crate) kind: &'a str,
    pub(crate) origin: &'a str,
    /// How many keys it came with, and the target of the first.
    pub(crate) keys: usize,
    pub(crate) key_target: &'a str,
    /// The content, when it is encrypted.
    pub(crate) content: Option<&'a [u8]>,
}

/// Reads a message in place.
pub(crate) fn read(message: &[u8]) -> Result<Arrival<'_>> {
    let mut reader = Reader { bytes: message, at: 0 };
    let mut arrival = Arrival { kind: "", origin: "", keys: 0, key_target: "", content: None };
    for _ in 0..reader.map()? {
        match reader.text()? {
            "kind" => arrival.kind = reader.text()?,
            "origin" => arrival.origin = reader.text()?,
            "metadata" => read_metadata(&mut reader, &mut arrival)?,
            "content" => arrival.content = reader.binary_or_skip()?,
            _ => reader.skip(0)?,
        }
    }
    Ok(arrival)
}

fn read_metadata<'a>(reader: &mut Reader<'a>, arrival: &mut Arrival<'a>) -> Result<()> {
    for _ in 0..reader.map()? {
        if reader.text()? != "encryption" {
            reader.skip(0)?;
            continue;
        }
        for _ in 0..reader.map()? {
            if reader.text()? == "keys" {
                arrival.keys = reader.array()?;
                for index in 0..arrival.keys {
                    for _ in 0..reader.map()? {
                        match reader.text()? {
                            "target" if index == 0 => arrival.key_target = reader.text()?,
                            _ => reader.skip(0)?,
                        }
                    }
                }
            } else {
                reader.skip(0)?;
            }
        }
    }
    Ok(())
}

/// How deep values may nest: what the protocol sends has five levels.
const DEPTH_MAX: usize = 32;

/// A walk over MessagePack that borrows what it finds.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let slice = self.bytes.get(self.at..self.at + count).context("the message is cut short")?;
        self.at += count;
        Ok(slice)
    }

    fn number(&mut self, width: usize) -> Result<usize> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn marker(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn map(&mut self) -> Result<usize> {
        match self.marker()? {
            marker @ 0x80..=0x8F => Ok(usize::from(marker & 0x0F)),
            0xDE => self.number(2),
            0xDF => self.number(4),
            marker => bail!("expected a map, found marker {marker:#x}"),
        }
    }

    fn array(&mut self) -> Result<usize> {
        match self.marker()? {
            marker @ 0x90..=0x9F => Ok(usize::from(marker & 0x0F)),
            0xDC => self.number(2),
            0xDD => self.number(4),
            marker => bail!("expected an array, found marker {marker:#x}"),
        }
    }

    fn text(&mut self) -> Result<&'a str> {
        let length = match self.marker()? {
            marker @ 0xA0..=0xBF => usize::from(marker & 0x1F),
            0xD9 => self.number(1)?,
            0xDA => self.number(2)?,
            0xDB => self.number(4)?,
            marker => bail!("expected a text, found marker {marker:#x}"),
        };
        Ok(std::str::from_utf8(self.take(length)?)?)
    }

    fn binary_or_skip(&mut self) -> Result<Option<&'a [u8]>> {
        let width = match self.bytes.get(self.at) {
            Some(0xC4) => 1,
            Some(0xC5) => 2,
            Some(0xC6) => 4,
            _ => {
                self.skip(0)?;
                return Ok(None);
            }
        };
        self.at += 1;
        let length = self.number(width)?;
        self.take(length).map(Some)
    }

    fn skip(&mut self, depth: usize) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "the message nests too deep");
        let marker = self.marker()?;
        let (bytes, values) = match marker {
            0x00..=0x7F | 0xE0..=0xFF | 0xC0 | 0xC2 | 0xC3 => (0, 0),
            0xCC | 0xD0 => (1, 0),
            0xCD | 0xD1 | 0xD4 => (2, 0),
            0xD5 => (3, 0),
            0xCA | 0xCE | 0xD2 => (4, 0),
            0xD6 => (5, 0),
            0xCB | 0xCF | 0xD3 => (8, 0),
            0xD7 => (9, 0),
            0xD8 => (17, 0),
            0xA0..=0xBF => (usize::from(marker & 0x1F), 0),
            0xC4 | 0xD9 => (self.number(1)?, 0),
            0xC5 | 0xDA => (self.number(2)?, 0),
            0xC6 | 0xDB => (self.number(4)?, 0),
            0xC7 => (self.number(1)? + 1, 0),
            0xC8 => (self.number(2)? + 1, 0),
            0xC9 => (self.number(4)? + 1, 0),
            0x90..=0x9F => (0, usize::from(marker & 0x0F)),
            0xDC => (0, self.number(2)?),
            0xDD => (0, self.number(4)?),
            0x80..=0x8F => (0, 2 * usize::from(marker & 0x0F)),
            0xDE => (0, 2 * self.number(2)?),
            0xDF => (0, 2 * self.number(4)?),
            0xC1 => bail!("the message has the reserved marker 0xc1"),
        };
        self.take(bytes)?;
        for _ in 0..values {
            self.skip(depth + 1)?;
        }
        Ok(())
    }
}

/// A MessagePack map with text keys.
pub(crate) fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// The answer of a host that agrees to the join request `id`.
pub(crate) fn consent(id: Value) -> Result<Vec<u8>> {
    let workspace = map([("name", "load".into()), ("folders", Value::Array(vec!["load".into()]))]);
    let message = map([
        ("kind", "response".into()),
        ("version", PROTOCOL_VERSION.into()),
        ("id", id),
        ("metadata", no_metadata()),
        ("content", map([("response", map([("workspace", workspace)]))])),
    ]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &message)?;
    Ok(bytes)
}

/// What a peer that leaves tells the server.
pub(crate) fn leave() -> Result<Vec<u8>> {
    let message = map([
        ("kind", "notification".into()),
        ("version", PROTOCOL_VERSION.into()),
        ("origin", "".into()),
        ("target", "".into()),
        ("metadata", no_metadata()),
        ("content", map([("method", "room/leave".into()), ("params", Value::Array(vec![]))])),
    ]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &message)?;
    Ok(bytes)
}

/// The metadata of a message that is neither encrypted nor compressed.
fn no_metadata() -> Value {
    map([("encryption", map([("keys", Value::Array(vec![]))])), ("compression", map([("algorithm", "none".into())]))])
}

/// Bytes that look encrypted: the same for the same `seed`, so that runs can be compared.
pub(crate) fn random_bytes(seed: &str, count: usize) -> Vec<u8> {
    // FNV-1a spreads the seed, xorshift64 runs on from there; neither needs to be better than incompressible.
    let mut state = seed
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A field of a MessagePack map.
pub(crate) fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

/// Text of `count` characters that looks like base64.
fn random_text(seed: &str, count: usize) -> String {
    use base64::Engine as _;
    let mut text = base64::engine::general_purpose::STANDARD.encode(random_bytes(seed, count));
    text.truncate(count);
    text
}

/// A span of a message that must arrive unchanged.
pub(crate) fn filling(content: &[u8]) -> &[u8] {
    content.get(Range { start: STAMP_BYTES, end: content.len() }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_broadcast_is_read_back() {
        let content = random_bytes("content", 256);
        let mut template = Template::new(&["peer-b", "peer-c"], 684, &content).unwrap();
        let stamp = Stamp { sender: 7, number: 1 << 40, due_ns: 99 };
        let bytes = template.stamped(stamp).to_vec();
        let arrival = read(&bytes).unwrap();
        assert_eq!((arrival.kind, arrival.origin, arrival.keys, arrival.key_target), ("broadcast", "", 2, "peer-b"));
        let received = arrival.content.unwrap();
        assert_eq!(Stamp::read(received), Some(stamp));
        assert_eq!(filling(received), filling(&content));
    }

    #[test]
    fn every_kind_of_value_is_skipped() {
        let values = vec![
            Value::Nil,
            true.into(),
            5.into(),
            200.into(),
            70_000.into(),
            Value::from(1_u64 << 40),
            Value::from(-1),
            Value::from(-40_000),
            Value::F32(1.0),
            Value::F64(2.0),
            "x".repeat(40).into(),
            "y".repeat(300).into(),
            "z".repeat(70_000).into(),
            Value::Binary(vec![1; 300]),
            Value::Ext(0, vec![0]),
            Value::Ext(1, vec![0; 2]),
            Value::Ext(1, vec![0; 3]),
            Value::Ext(1, vec![0; 8]),
            Value::Ext(1, vec![0; 16]),
            Value::Array(vec![1.into(); 20]),
            map([("a", map([("b", Value::Nil)]))]),
        ];
        for value in values {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &map([("unknown", value.clone()), ("kind", "k".into())])).unwrap();
            assert_eq!(read(&bytes).unwrap().kind, "k", "{value:?}");
        }
    }

    #[test]
    fn a_message_that_is_cut_short_is_an_error() {
        let mut template = Template::new(&["peer-b"], 16, &[1; 64]).unwrap();
        let bytes = template.stamped(Stamp { sender: 0, number: 0, due_ns: 0 }).to_vec();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end} bytes");
        }
    }
}
