//! A full decoder, which builds everything, against the walker, which builds nothing. The fuzz target has it too.

#![allow(clippy::unwrap_used, unreachable_pub)]

use ctedge_protocol::{Content, Head, KeyEntry, Kind, Target};
use rmpv::Value;

/// A value as MessagePack.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

/// The one value that `bytes` are.
pub fn decode(mut bytes: &[u8]) -> Value {
    let value = rmpv::decode::read_value(&mut bytes).unwrap();
    assert!(bytes.is_empty(), "{} bytes follow", bytes.len());
    value
}

fn find<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(found, _)| found.as_str() == Some(name)).map(|(_, value)| value)
}

fn text<'a>(map: &'a Value, name: &str) -> Option<&'a [u8]> {
    match find(map, name)? {
        Value::String(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// The bytes are those of the value. Both are compared as they are encoded, because a number that is none is not equal
/// to itself.
fn assert_same<'a>(bytes: impl Into<Option<&'a [u8]>>, value: Option<&Value>) {
    assert_eq!(bytes.into().map(|bytes| encode(&decode(bytes))), value.map(encode));
}

/// What the walker found is what a full decoder finds.
pub fn check_walk(message: &[u8], head: &Head<'_>, keys: &[KeyEntry]) {
    let decoded = decode(message);
    assert_eq!(head.version, text(&decoded, "version"));
    let kind = match text(&decoded, "kind") {
        Some(b"request") => Kind::Request,
        Some(b"response") => Kind::Response,
        Some(b"response-error") => Kind::ResponseError,
        Some(b"notification") => Kind::Notification,
        Some(b"broadcast") => Kind::Broadcast,
        _ => Kind::Other,
    };
    assert_eq!(head.kind, kind);
    let id = find(&decoded, "id").filter(|id| id.is_number() || matches!(id, Value::String(_)));
    assert_same(head.id.map(|id| id.of(message)), id);
    assert_same(head.origin.map(|origin| origin.of(message)), find(&decoded, "origin"));
    let target = match text(&decoded, "target") {
        None => Target::Missing,
        Some(b"") => Target::Server,
        Some(id) => Target::Peer(id),
    };
    assert_eq!(head.target, target);
    match (head.content, find(&decoded, "content")) {
        (Content::Missing, None) | (Content::Encrypted, Some(Value::Binary(_))) => {}
        (Content::Plain(span), Some(plain)) if !matches!(plain, Value::Binary(_)) => {
            assert_same(span.of(message), Some(plain));
        }
        other => panic!("{other:?}"),
    }
    let expected_keys = find(&decoded, "metadata")
        .and_then(|metadata| find(metadata, "encryption"))
        .and_then(|encryption| find(encryption, "keys"));
    assert_same(head.keys.map(|keys| keys.of(message)), expected_keys);
    let entries = expected_keys.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    assert_eq!(keys.len(), entries.len());
    for (key, entry) in keys.iter().zip(entries) {
        assert_same(key.entry.of(message), Some(entry));
        assert_eq!(key.target.of(message), text(entry, "target").unwrap_or_default());
    }
}
