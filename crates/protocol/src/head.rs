//! Finds what a relay must know of a message, without decoding it.
//!
//! [`Head::walk`] goes over the bytes once and remembers where things are; nothing is copied or allocated. It accepts
//! fields in any order and keeps those it does not know. It refuses what would let a receiver read another message
//! than we do: a field twice, a field name that is no proper UTF-8, bytes after the end.

use crate::msgpack::{Item, Reader};

/// The most entries of `keys`: one for each receiver of a broadcast, and then some.
pub const KEYS_MAX: u32 = 4096;

/// The longest message in bytes that can be walked; positions are kept in 32 bits.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Why bytes are no message that we relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// They end within a value.
    #[error("the message ends too soon")]
    Truncated,
    /// They go on after the message.
    #[error("bytes follow the message")]
    Trailing,
    /// More than [`MESSAGE_BYTES_MAX`].
    #[error("the message is too long")]
    TooLong,
    /// Maps and arrays nest too deep.
    #[error("the message nests too deep")]
    TooDeep,
    /// More than [`KEYS_MAX`] keys.
    #[error("the message has too many keys")]
    TooManyKeys,
    /// The reserved byte 0xc1.
    #[error("the message has a byte that MessagePack reserves")]
    Reserved,
    /// An extension type other than `undefined`.
    #[error("the message has an extension type")]
    Extension,
    /// A text that must be read is no UTF-8.
    #[error("a text of the message is not UTF-8")]
    NotUtf8,
    /// A field of the protocol occurs twice in one map.
    #[error("a field of the message occurs twice")]
    Repeated,
    /// A value of another type than the protocol has there.
    #[error("a field of the message has an unexpected type")]
    Unexpected,
}

/// Where something is in a message: from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        // Positions are below MESSAGE_BYTES_MAX.
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of `message` that this span names. Empty if it is a span of another message and lies outside.
    #[must_use]
    #[inline]
    pub fn of(self, message: &[u8]) -> &[u8] {
        message.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// How many bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `request`.
    Request,
    /// `response`.
    Response,
    /// `response-error`.
    ResponseError,
    /// `notification`.
    Notification,
    /// `broadcast`.
    Broadcast,
    /// Something else, or nothing: not for us.
    Other,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// `""`: the server.
    Server,
    /// The peer of this id, in bytes as they came.
    Peer(&'a [u8]),
    /// Nobody is named.
    Missing,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Opaque bytes: encrypted for peers.
    Encrypted,
    /// A value that is not opaque, from its first byte to its last.
    Plain(Span),
    /// No content.
    Missing,
}

/// One entry of `metadata.encryption.keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEntry {
    /// The whole entry.
    pub entry: Span,
    /// The bytes of its `target`, without their length; empty if it has none.
    pub target: Span,
}

/// What a relay must know of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The message itself.
    pub message: &'a [u8],
    /// The protocol version, if there is one.
    pub version: Option<&'a [u8]>,
    /// What the message is.
    pub kind: Kind,
    /// The whole value of `id`, a number or a text.
    pub id: Option<Span>,
    /// The whole value of `origin`, of whatever type.
    pub origin: Option<Span>,
    /// Whom it is for.
    pub target: Target<'a>,
    /// The whole value of `metadata.encryption.keys`, an array.
    pub keys: Option<Span>,
    /// What it says.
    pub content: Content,
    /// How many fields the message has.
    pub(crate) fields: u32,
    /// Where the first field begins.
    pub(crate) fields_start: u32,
}

impl<'a> Head<'a> {
    /// Walks over `message`. The entries of its `keys` are put into `keys`, in their order; what was there before is
    /// gone, so that one vector serves many messages.
    pub fn walk(message: &'a [u8], keys: &mut Vec<KeyEntry>) -> Result<Self, Malformed> {
        keys.clear();
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        let mut reader = Reader::new(message);
        let fields = reader.map()?;
        let mut head = Self {
            message,
            version: None,
            kind: Kind::Other,
            id: None,
            origin: None,
            target: Target::Missing,
            keys: None,
            content: Content::Missing,
            fields,
            fields_start: Span::new(reader.position(), reader.position()).start,
        };
        let mut seen = Seen::default();
        for _ in 0..fields {
            let name = reader.str_bytes()?;
            head.field(name, &mut reader, &mut seen, keys)?;
        }
        if reader.is_at_end() { Ok(head) } else { Err(Malformed::Trailing) }
    }

    fn field(
        &mut self,
        name: &[u8],
        reader: &mut Reader<'a>,
        seen: &mut Seen,
        keys: &mut Vec<KeyEntry>,
    ) -> Result<(), Malformed> {
        match name {
            b"version" => {
                seen.once(0)?;
                self.version = text_or_skip(reader)?;
            }
            b"kind" => {
                seen.once(1)?;
                self.kind = text_or_skip(reader)?.map_or(Kind::Other, kind);
            }
            b"id" => {
                seen.once(2)?;
                self.id = id(reader)?;
            }
            b"origin" => {
                seen.once(3)?;
                self.origin = Some(spanned(reader, Reader::skip)?.1);
            }
            b"target" => {
                seen.once(4)?;
                self.target = match text_or_skip(reader)? {
                    None => Target::Missing,
                    Some(b"") => Target::Server,
                    Some(id) => Target::Peer(id),
                };
            }
            b"metadata" => {
                seen.once(5)?;
                self.keys = metadata(reader, keys)?;
            }
            b"content" => {
                seen.once(6)?;
                let (item, span) = spanned(reader, value)?;
                self.content = if matches!(item, Item::Bin(_)) { Content::Encrypted } else { Content::Plain(span) };
            }
            _ => unknown(name, reader)?,
        }
        Ok(())
    }
}

/// Which of the fields of one map have been seen.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn once(&mut self, field: u8) -> Result<(), Malformed> {
        let bit = 1 << field;
        if self.0 & bit != 0 {
            return Err(Malformed::Repeated);
        }
        self.0 |= bit;
        Ok(())
    }
}

fn kind(text: &[u8]) -> Kind {
    match text {
        b"request" => Kind::Request,
        b"response" => Kind::Response,
        b"response-error" => Kind::ResponseError,
        b"notification" => Kind::Notification,
        b"broadcast" => Kind::Broadcast,
        _ => Kind::Other,
    }
}

/// `metadata`, whose only part that we read is `encryption`.
fn metadata(reader: &mut Reader<'_>, keys: &mut Vec<KeyEntry>) -> Result<Option<Span>, Malformed> {
    one_of_map(reader, b"encryption", |reader| one_of_map(reader, b"keys", |reader| key_entries(reader, keys)))
        .map(Option::flatten)
}

/// Reads a map, and the one field of it that matters with `read`. A value that is no map has no fields.
fn one_of_map<'a, T>(
    reader: &mut Reader<'a>,
    wanted: &[u8],
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    let fields = match reader.item()? {
        Item::Map(fields) => fields,
        other => return reader.skip_rest(other).map(|()| None),
    };
    let mut found = None;
    for _ in 0..fields {
        let name = reader.str_bytes()?;
        if name != wanted {
            unknown(name, reader)?;
        } else if found.is_some() {
            return Err(Malformed::Repeated);
        } else {
            found = Some(read(reader)?);
        }
    }
    Ok(found)
}

fn key_entries(reader: &mut Reader<'_>, keys: &mut Vec<KeyEntry>) -> Result<Span, Malformed> {
    let start = reader.position();
    let Item::Array(entries) = reader.item()? else { return Err(Malformed::Unexpected) };
    if entries > KEYS_MAX {
        return Err(Malformed::TooManyKeys);
    }
    for _ in 0..entries {
        keys.push(key_entry(reader)?);
    }
    Ok(Span::new(start, reader.position()))
}

fn key_entry(reader: &mut Reader<'_>) -> Result<KeyEntry, Malformed> {
    let start = reader.position();
    let target = one_of_map(reader, b"target", |reader| {
        let text = reader.str_bytes()?;
        Ok(Span::new(reader.position() - text.len(), reader.position()))
    })?;
    let entry = Span::new(start, reader.position());
    Ok(KeyEntry { entry, target: target.unwrap_or(Span::new(start, start)) })
}

/// A field that we do not know is kept as it is. Its name must be proper UTF-8: a lenient decoder may take an overlong
/// form for the name of a field that we do know.
fn unknown(name: &[u8], reader: &mut Reader<'_>) -> Result<(), Malformed> {
    if std::str::from_utf8(name).is_err() {
        return Err(Malformed::NotUtf8);
    }
    reader.skip()
}

fn text_or_skip<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    match reader.item()? {
        Item::Str(length) => reader.take(length).map(Some),
        other => reader.skip_rest(other).map(|()| None),
    }
}

fn id(reader: &mut Reader<'_>) -> Result<Option<Span>, Malformed> {
    let (item, span) = spanned(reader, value)?;
    Ok(matches!(item, Item::Number(_) | Item::Str(_)).then_some(span))
}

fn value(reader: &mut Reader<'_>) -> Result<Item, Malformed> {
    let item = reader.item()?;
    reader.skip_rest(item)?;
    Ok(item)
}

fn spanned<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<(T, Span), Malformed> {
    let start = reader.position();
    let value = read(reader)?;
    Ok((value, Span::new(start, reader.position())))
}
