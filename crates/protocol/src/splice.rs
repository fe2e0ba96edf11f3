//! A relayed message: the one that came in, with its origin, id or keys replaced and everything else as it was.

use bytes::Bytes;

use crate::head::{Head, Span};
use crate::msgpack::write_map;

/// The most replacements in one message: origin, id, keys.
const EDITS_MAX: usize = 3;

/// The name of the field that is added when a message has none, as MessagePack.
const ORIGIN_NAME: &[u8] = b"\xa6origin";

/// The head of an array of one value, as MessagePack.
const ARRAY_OF_ONE: &[u8] = &[0x91];

/// What to replace. Values are whole MessagePack values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replacements<'a> {
    /// The value of `origin`; the field is added if it is missing.
    pub origin: Option<&'a [u8]>,
    /// The value of `id`; left out if the message has none.
    pub id: Option<&'a [u8]>,
    /// The only entry of `keys`; left out if the message has none.
    pub key: Option<&'a [u8]>,
}

/// The message of `head` with `replacements`, in one allocation of exactly its size.
#[must_use]
pub fn splice(head: &Head<'_>, replacements: Replacements<'_>) -> Bytes {
    let mut edits = Edits::default();
    if let (Some(span), Some(origin)) = (head.origin, replacements.origin) {
        edits.add(span, [origin, &[]]);
    }
    if let (Some(span), Some(id)) = (head.id, replacements.id) {
        edits.add(span, [id, &[]]);
    }
    if let (Some(span), Some(key)) = (head.keys, replacements.key) {
        edits.add(span, [ARRAY_OF_ONE, key]);
    }
    match (head.origin, replacements.origin) {
        (None, Some(origin)) => with_origin_added(head, &edits, origin),
        _ => {
            let mut out = Vec::with_capacity(head.message.len() + edits.grown - edits.shrunk);
            edits.write(head.message, 0, &mut out);
            Bytes::from(out)
        }
    }
}

/// The first bytes say how many fields there are, so they change as well.
fn with_origin_added(head: &Head<'_>, edits: &Edits<'_>, origin: &[u8]) -> Bytes {
    let head_bytes_max = 5;
    let added = head_bytes_max + ORIGIN_NAME.len() + origin.len();
    let mut out = Vec::with_capacity(head.message.len() + edits.grown - edits.shrunk + added);
    write_map(&mut out, head.fields.saturating_add(1));
    edits.write(head.message, head.fields_start as usize, &mut out);
    out.extend_from_slice(ORIGIN_NAME);
    out.extend_from_slice(origin);
    Bytes::from(out)
}

/// What is replaced, and by which two parts, one after the other.
type Edit<'a> = (Span, [&'a [u8]; 2]);

/// Replacements in the order of their places. The spans of one walk never overlap.
#[derive(Default)]
struct Edits<'a> {
    edits: [Option<Edit<'a>>; EDITS_MAX],
    count: usize,
    grown: usize,
    shrunk: usize,
}

impl<'a> Edits<'a> {
    fn add(&mut self, span: Span, parts: [&'a [u8]; 2]) {
        let mut at = self.count;
        while let Some((before, _)) = at.checked_sub(1).and_then(|before| self.edits[before])
            && before.start > span.start
        {
            self.edits[at] = self.edits[at - 1];
            at -= 1;
        }
        self.edits[at] = Some((span, parts));
        self.count += 1;
        self.grown += parts[0].len() + parts[1].len();
        self.shrunk += span.len();
    }

    fn write(&self, message: &[u8], from: usize, out: &mut Vec<u8>) {
        let mut at = from;
        for (span, parts) in self.edits.iter().flatten() {
            out.extend_from_slice(&message[at..span.start as usize]);
            out.extend_from_slice(parts[0]);
            out.extend_from_slice(parts[1]);
            at = span.end as usize;
        }
        out.extend_from_slice(&message[at..]);
    }
}
