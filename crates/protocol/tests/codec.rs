//! The walker and the splicer against a full decoder, on generated, changed and arbitrary bytes.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod reference;

use ctedge_protocol::splice::{Replacements, splice};
use ctedge_protocol::{Head, JoinAnswer, Malformed, ServerNotification, Target};
use proptest::prelude::*;
use reference::{check_walk, decode, encode};
use rmpv::Value;

/// Values without extension types, which the walker refuses.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            proptest::collection::vec(("[a-z]{1,3}".prop_map(Value::from), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

fn peer_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9]{24}"
}

fn key_entry() -> impl Strategy<Value = Value> {
    let fields = (peer_id(), "[A-Za-z0-9+/]{0,700}", value()).prop_map(|(target, key, iv)| {
        vec![("target".into(), target.into()), ("key".into(), key.into()), ("iv".into(), iv)]
    });
    fields.prop_shuffle().prop_map(Value::Map)
}

fn metadata() -> impl Strategy<Value = Value> {
    let keys = proptest::collection::vec(key_entry(), 0..20).prop_map(Value::Array);
    let encryption = (keys, value()).prop_map(|(keys, other)| vec![("keys".into(), keys), ("other".into(), other)]);
    let metadata = (encryption.prop_shuffle().prop_map(Value::Map), value()).prop_map(|(encryption, compression)| {
        vec![("encryption".into(), encryption), ("compression".into(), compression)]
    });
    metadata.prop_shuffle().prop_map(Value::Map)
}

fn field() -> impl Strategy<Value = (Value, Value)> {
    let kind = prop_oneof![
        Just("request"),
        Just("response"),
        Just("response-error"),
        Just("notification"),
        Just("broadcast"),
        Just("error")
    ];
    prop_oneof![
        "[0-9.]{0,8}".prop_map(|version| ("version".into(), version.into())),
        kind.prop_map(|kind| ("kind".into(), kind.into())),
        prop_oneof![any::<u64>().prop_map(Value::from), ".{0,40}".prop_map(Value::from), value()]
            .prop_map(|id| ("id".into(), id)),
        value().prop_map(|origin| ("origin".into(), origin)),
        prop_oneof![Just(Value::from("")), peer_id().prop_map(Value::from), value()]
            .prop_map(|target| ("target".into(), target)),
        metadata().prop_map(|metadata| ("metadata".into(), metadata)),
        value().prop_map(|content| ("content".into(), content)),
        ("[a-z]{1,12}", value()).prop_map(|(name, value)| (name.into(), value)),
    ]
}

/// A message with fields of the protocol and others in any order, each at most once.
fn message() -> impl Strategy<Value = Vec<(Value, Value)>> {
    proptest::collection::vec(field(), 0..20).prop_map(|mut fields| {
        let mut names = std::collections::HashSet::new();
        fields.retain(|(name, _)| names.insert(name.to_string()));
        fields
    })
}

fn replace(fields: &mut Value, name: &str, value: &Value) -> bool {
    let Value::Map(fields) = fields else { return false };
    match fields.iter_mut().find(|(found, _)| found.as_str() == Some(name)) {
        Some((_, old)) => {
            *old = value.clone();
            true
        }
        None => false,
    }
}

proptest! {
    #[test]
    fn the_walker_finds_what_a_full_decoder_finds(fields in message()) {
        let message = encode(&Value::Map(fields));
        let mut keys = Vec::new();
        let head = Head::walk(&message, &mut keys).unwrap();
        check_walk(&message, &head, &keys);
    }

    #[test]
    fn a_spliced_message_differs_in_what_was_replaced_and_in_nothing_else(
        fields in message(),
        origin in proptest::option::of(value()),
        id in proptest::option::of(value()),
        key in proptest::option::of(key_entry()),
    ) {
        let message = encode(&Value::Map(fields.clone()));
        let head = Head::walk(&message, &mut Vec::new()).unwrap();
        let encoded = [&origin, &id, &key].map(|value| value.as_ref().map(encode));
        let [new_origin, new_id, new_key] = encoded.each_ref().map(Option::as_deref);
        let spliced = splice(&head, Replacements { origin: new_origin, id: new_id, key: new_key });

        let mut expected = Value::Map(fields);
        if let Some(origin) = origin && !replace(&mut expected, "origin", &origin) {
            let Value::Map(fields) = &mut expected else { unreachable!() };
            fields.push(("origin".into(), origin));
        }
        if let Some(id) = id && head.id.is_some() {
            replace(&mut expected, "id", &id);
        }
        if let Some(key) = key && let Value::Map(fields) = &mut expected {
            let metadata = fields.iter_mut().find(|(name, _)| name.as_str() == Some("metadata")).map(|(_, metadata)| metadata);
            if let Some(Value::Map(metadata)) = metadata
                && let Some((_, encryption)) = metadata.iter_mut().find(|(name, _)| name.as_str() == Some("encryption"))
            {
                replace(encryption, "keys", &Value::Array(vec![key]));
            }
        }
        assert_eq!(decode(&spliced), expected);
    }

    #[test]
    fn what_the_walker_accepts_of_a_damaged_message_a_full_decoder_reads_alike(
        fields in message(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut message = encode(&Value::Map(fields));
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let mut keys = Vec::new();
        if let Ok(head) = Head::walk(&message, &mut keys) {
            check_walk(&message, &head, &keys);
        }
    }

    #[test]
    fn arbitrary_bytes_panic_nowhere(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Head::walk(&bytes, &mut Vec::new());
        let _ = JoinAnswer::read(&bytes);
        let _ = ServerNotification::read(&bytes);
    }
}

fn check_refused(message: &[u8], expected: Malformed) {
    assert_eq!(Head::walk(message, &mut Vec::new()).unwrap_err(), expected, "{message:02x?}");
}

#[test]
fn what_receivers_could_read_differently_is_refused() {
    // The second `origin` would win at the receiver.
    check_refused(b"\x82\xa6origin\xa0\xa6origin\xa1x", Malformed::Repeated);
    check_refused(b"\x82\xa7content\xc4\x00\xa7content\x80", Malformed::Repeated);
    check_refused(b"\x82\xa8metadata\x80\xa8metadata\x80", Malformed::Repeated);
    check_refused(b"\x81\xa8metadata\x82\xaaencryption\x80\xaaencryption\x80", Malformed::Repeated);
    // An overlong `o`.
    check_refused(b"\x81\xa7\xc1\xafrigin\xa0", Malformed::NotUtf8);
    // A record of msgpackr, whose values follow the extension; a bundle of strings; its reserved byte.
    check_refused(b"\x81\xa1x\xd4\x72\x40", Malformed::Extension);
    check_refused(b"\x81\xa1x\xd6\x62\x00\x00\x00\x00", Malformed::Extension);
    check_refused(b"\x81\xa1x\xc1", Malformed::Reserved);
    check_refused(b"\x80\x80", Malformed::Trailing);
    check_refused(b"\x81\xc4\x06origin\xa0", Malformed::Unexpected);
}

#[test]
fn hostile_sizes_are_refused_without_work() {
    check_refused(b"", Malformed::Truncated);
    check_refused(b"\xdf\xff\xff\xff\xff", Malformed::Truncated);
    check_refused(b"\x81\xa1x\xdd\xff\xff\xff\xff", Malformed::Truncated);
    check_refused(b"\x81\xa7content\xc6\xff\xff\xff\xff", Malformed::Truncated);
    check_refused(b"\x81\xa8metadata\x81\xaaencryption\x81\xa4keys\xdd\xff\xff\xff\xff", Malformed::TooManyKeys);
    let deep = [&b"\x81\xa1x"[..], &[0x91; 1000], b"\xc0"].concat();
    check_refused(&deep, Malformed::TooDeep);
}

#[test]
fn undefined_is_read_as_clients_write_it() {
    let message = b"\x82\xa6target\xd4\x00\x00\xa6origin\xd4\x00\x00";
    let head = Head::walk(message, &mut Vec::new()).unwrap();
    assert_eq!(head.target, Target::Missing);
    let spliced = splice(&head, Replacements { origin: Some(b"\xa1p"), ..Replacements::default() });
    assert_eq!(spliced, &b"\x82\xa6target\xd4\x00\x00\xa6origin\xa1p"[..]);
}

#[test]
fn writers_use_the_shortest_head_that_a_full_decoder_reads() {
    use ctedge_protocol::msgpack::{write_array, write_map, write_str};
    for length in [0, 31, 32, 255, 256, 65_535, 65_536] {
        let text = "x".repeat(length);
        let mut bytes = Vec::new();
        write_str(&mut bytes, &text);
        assert_eq!(bytes, encode(&Value::from(text)));
    }
    for length in [0_u32, 15, 16, 65_535, 65_536] {
        let nils = vec![Value::Nil; length as usize];
        let mut bytes = Vec::new();
        write_array(&mut bytes, length);
        assert!(encode(&Value::Array(nils.clone())).starts_with(&bytes), "{length}");
        let pairs = nils.into_iter().map(|nil| (nil.clone(), nil)).collect();
        bytes.clear();
        write_map(&mut bytes, length);
        assert!(encode(&Value::Map(pairs)).starts_with(&bytes), "{length}");
    }
}
