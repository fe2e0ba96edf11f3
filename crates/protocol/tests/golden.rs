//! Messages as the npm client `open-collaboration-protocol` 0.3.3 (with msgpackr 1.11) encodes them, and what the
//! relay reads of them. The files are in `golden/`; the encrypted ones have real RSA-4096 keys, which is why each entry
//! of `keys` is as long as it is.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use ctedge_protocol::server::EncodedId;
use ctedge_protocol::{Content, Head, JoinAnswer, Kind, ServerNotification, Target, Workspace};

const A: &[u8] = b"aaaaaaaaaaaaaaaaaaaaaaaa";
const B: &[u8] = b"bbbbbbbbbbbbbbbbbbbbbbbb";

struct Expected {
    kind: Kind,
    target: Target<'static>,
    id: Option<&'static [u8]>,
    has_origin: bool,
    keys: &'static [&'static [u8]],
    is_encrypted: bool,
}

fn check(message: &[u8], expected: &Expected) {
    let mut keys = Vec::new();
    let head = Head::walk(message, &mut keys).unwrap();
    assert_eq!(head.version, Some(&b"0.3.1"[..]));
    assert_eq!((head.kind, head.target), (expected.kind, expected.target));
    assert_eq!(head.id.map(|id| id.of(message)), expected.id);
    assert_eq!(head.origin.map(|origin| origin.of(message)), expected.has_origin.then_some(&b"\xa0"[..]));
    assert_eq!(keys.iter().map(|key| key.target.of(message)).collect::<Vec<_>>(), expected.keys);
    assert_eq!(head.content == Content::Encrypted, expected.is_encrypted);
}

fn content(message: &[u8]) -> &[u8] {
    match Head::walk(message, &mut Vec::new()).unwrap().content {
        Content::Plain(span) => span.of(message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_clients_send_each_other_is_read() {
    check(
        include_bytes!("golden/broadcast.msgpack"),
        &Expected {
            kind: Kind::Broadcast,
            target: Target::Missing,
            id: None,
            has_origin: true,
            keys: &[A, B],
            is_encrypted: true,
        },
    );
    check(
        include_bytes!("golden/request.msgpack"),
        &Expected {
            kind: Kind::Request,
            target: Target::Peer(A),
            id: Some(b"\x07"),
            has_origin: true,
            keys: &[A],
            is_encrypted: true,
        },
    );
    check(
        include_bytes!("golden/response.msgpack"),
        &Expected {
            kind: Kind::Response,
            target: Target::Missing,
            id: Some(b"\xa241"),
            has_origin: false,
            keys: &[A],
            is_encrypted: true,
        },
    );
    check(
        include_bytes!("golden/notification.msgpack"),
        &Expected {
            kind: Kind::Notification,
            target: Target::Peer(B),
            id: None,
            has_origin: true,
            keys: &[B],
            is_encrypted: true,
        },
    );
}

#[test]
fn leaving_is_read_with_and_without_parameters() {
    for message in
        [&include_bytes!("golden/leave.msgpack")[..], &include_bytes!("golden/leave-without-params.msgpack")[..]]
    {
        let expected = Expected {
            kind: Kind::Notification,
            target: Target::Server,
            id: None,
            has_origin: true,
            keys: &[],
            is_encrypted: false,
        };
        check(message, &expected);
        assert_eq!(ServerNotification::read(content(message)), Ok(ServerNotification::Leave));
    }
}

#[test]
fn a_host_agrees_with_a_workspace_and_refuses_with_undefined() {
    let agreed = include_bytes!("golden/join-agreed.msgpack");
    let workspace = Workspace { name: "démo".into(), folders: vec!["src".into(), "docs".into()] };
    assert_eq!(JoinAnswer::read(content(agreed)), Ok(JoinAnswer::Agreed(workspace)));
    let refused = include_bytes!("golden/join-refused.msgpack");
    assert_eq!(JoinAnswer::read(content(refused)), Ok(JoinAnswer::Refused));
    let head = Head::walk(refused, &mut Vec::new()).unwrap();
    assert_eq!(head.id.and_then(|id| EncodedId::read(id.of(refused))), Some(17));
}

#[test]
fn an_error_of_the_host_is_a_plain_response_error() {
    let expected = Expected {
        kind: Kind::ResponseError,
        target: Target::Missing,
        id: Some(b"\xa217"),
        has_origin: false,
        keys: &[],
        is_encrypted: false,
    };
    check(include_bytes!("golden/join-failed.msgpack"), &expected);
}
