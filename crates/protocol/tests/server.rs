//! The messages of the server, as a full decoder reads them.

// Tests may unwrap; clippy takes only the test functions themselves for tests, not their helpers.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use ctedge_protocol::server::{self, EncodedId};
use ctedge_protocol::{Handshake, JoinAnswer, Malformed, Peer, PeerId, ServerNotification, User};
use rmpv::Value;

fn user(email: Option<&str>) -> User {
    User { id: "u".into(), name: "Ada".into(), email: email.map(Into::into), auth_provider: "Unverified".into() }
}

fn peer(email: Option<&str>) -> Peer {
    Peer::new(&PeerId::new("p"), false, &user(email), &Handshake::new(&"k".repeat(700), None, Some("gzip,none")))
}

/// The message as JSON, which has the same shape as long as nothing in it is binary.
fn json(message: &Bytes) -> String {
    let mut bytes = &message[..];
    let value = rmpv::decode::read_value(&mut bytes).unwrap();
    assert!(bytes.is_empty());
    value.to_string().replace(&"k".repeat(700), "KEY")
}

fn check(message: &Bytes, expected: &str) {
    let common = r#""version": "0.3.1", "kind": "#.to_owned()
        + "KIND"
        + r#", "origin": "", "metadata": {"encryption": {"keys": []}, "compression": {"algorithm": "none"}}"#;
    let (kind, rest) = expected.split_once(' ').unwrap();
    let expected = format!("{{{}, {rest}}}", common.replace("KIND", &format!("\"{kind}\"")));
    assert_eq!(json(message), expected);
}

#[test]
fn a_peer_that_joins_hears_who_it_is_and_the_others_hear_of_it() {
    let shown = r#"{"id": "p", "host": false, "name": "Ada", "email": "ada@example.org", "metadata": {"encryption": {"publicKey": "KEY"}, "compression": {"supported": ["gzip", "none"]}}}"#;
    let peer = peer(Some("ada@example.org"));
    let content = |method: &str| format!(r#""content": {{"method": "{method}", "params": [{shown}]}}"#);
    check(&server::peer_info(&peer), &format!(r#"notification "target": "p", {}"#, content("peer/info")));
    check(&server::room_joined(&peer), &format!("broadcast {}", content("room/joined")));
    check(&server::room_left(&peer), &format!("broadcast {}", content("room/left")));
}

#[test]
fn a_peer_without_an_address_has_no_such_field() {
    assert!(!json(&server::room_joined(&peer(None))).contains("email"));
}

#[test]
fn the_end_of_a_session_has_no_parameters() {
    check(&server::room_closed(), r#"broadcast "content": {"method": "room/closed", "params": []}"#);
}

#[test]
fn a_host_is_asked_with_the_user_and_an_id_that_comes_back() {
    let request = server::join_request(&EncodedId::new(17), &PeerId::new("h"), &user(None));
    check(
        &request,
        r#"request "id": "17", "target": "h", "content": {"method": "peer/join", "params": [{"id": "u", "name": "Ada", "authProvider": "Unverified"}]}"#,
    );
    assert_eq!(EncodedId::read(EncodedId::new(u64::MAX).as_bytes()), Some(u64::MAX));
    assert_eq!(EncodedId::read(b"\x11"), None);
    assert_eq!(EncodedId::read(b"\xa2x1"), None);
}

#[test]
fn an_error_carries_the_id_as_the_requester_wrote_it() {
    for id in [&b"\x07"[..], b"\xcb\x40\x00\x00\x00\x00\x00\x00\x00", b"\xa3abc"] {
        let message = server::response_error(id, "why");
        let value = rmpv::decode::read_value(&mut &message[..]).unwrap();
        let Value::Map(fields) = value else { panic!("no map") };
        let found = fields.iter().find(|(name, _)| name.as_str() == Some("id")).unwrap();
        let mut encoded = Vec::new();
        rmpv::encode::write_value(&mut encoded, &found.1).unwrap();
        assert_eq!(encoded, id);
    }
    check(&server::response_error(b"\x07", "why"), r#"response-error "id": 7, "content": {"message": "why"}"#);
}

#[test]
fn only_a_workspace_agrees() {
    let refused = [&b"\x80"[..], b"\xc0", b"\x81\xa8response\xc0", b"\x81\xa8response\x80", b"\x81\xa8response\xc3"];
    for content in refused {
        assert_eq!(JoinAnswer::read(content), Ok(JoinAnswer::Refused), "{content:02x?}");
    }
    let odd = b"\x81\xa8response\x81\xa9workspace\x81\xa7folders\x07";
    assert_eq!(JoinAnswer::read(odd), Err(Malformed::Unexpected));
    assert_eq!(JoinAnswer::read(&[0; 100_000]), Err(Malformed::TooLong));
}

#[test]
fn what_the_server_does_not_know_is_unknown() {
    assert_eq!(ServerNotification::read(b"\x81\xa6method\xa9room/left"), Ok(ServerNotification::Unknown));
    assert_eq!(ServerNotification::read(b"\x80"), Ok(ServerNotification::Unknown));
    assert_eq!(ServerNotification::read(b"\x90"), Err(Malformed::Unexpected));
}
