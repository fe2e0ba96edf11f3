//! Whole sessions, driven packet by packet.

// A failed unwrap in a helper fails the test that called it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_socketio::{
    CloseReason, Engine, EngineSettings, Event, Fault, PayloadSink, ProbeStep, Sink, Transport, UpgradeRefusal,
};

/// Collects what is written, binary packets as `<…>`.
#[derive(Default)]
struct Written(Vec<String>);

impl Sink for Written {
    fn text(&mut self, parts: &[&[u8]]) {
        self.0.push(String::from_utf8(parts.concat()).unwrap());
    }

    fn binary(&mut self, data: &Bytes) {
        self.0.push(format!("<{}>", String::from_utf8_lossy(data)));
    }
}

/// A session and its clock.
struct Session {
    engine: Engine,
    start: Instant,
    now: Instant,
}

fn settings() -> Arc<EngineSettings> {
    Arc::new(EngineSettings {
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(10),
        payload_bytes_max: 1_000_000,
        unproven_bytes_max: 100,
        unproven_max: Duration::from_secs(2),
    })
}

impl Session {
    fn fresh(transport: Transport) -> Self {
        let start = Instant::now();
        Self { engine: Engine::new(settings(), transport, start), start, now: start }
    }

    /// Connected to `namespace`, with everything written so far fetched.
    fn connected(transport: Transport, namespace: &str) -> Self {
        let mut session = Self::fresh(transport);
        let packet = if namespace == "/" { "40".to_owned() } else { format!("40{namespace},") };
        assert!(matches!(session.text(&packet), Ok(Some(Event::Connect(_)))));
        session.engine.accept("s", "p");
        session.written();
        session
    }

    fn text(&mut self, packet: &str) -> Result<Option<Event>, CloseReason> {
        self.engine.receive_text(packet.as_bytes(), self.now)
    }

    fn binary(&mut self) -> Result<Option<Event>, CloseReason> {
        self.engine.receive_binary(self.now)
    }

    fn written(&mut self) -> Vec<String> {
        let mut written = Written::default();
        self.engine.flush(&mut written, self.now);
        written.0
    }

    fn message(&mut self, offset: u64, text: &str) -> Vec<String> {
        let mut written = Written::default();
        self.engine.message(offset, &Bytes::copy_from_slice(text.as_bytes()), &mut written);
        self.engine.flush(&mut written, self.now);
        written.0
    }

    fn at(&mut self, second: u64) -> Result<(), CloseReason> {
        self.now = self.start + Duration::from_secs(second);
        self.engine.handle_timeout(self.now)
    }
}

#[test]
fn the_handshake_offers_the_upgrade_to_polling_alone() {
    for (transport, upgrades) in [(Transport::Polling, r#"["websocket"]"#), (Transport::WebSocket, "[]")] {
        let mut written = Written::default();
        Session::fresh(transport).engine.open("room.id", &mut written);
        let (packet_type, json) = written.0[0].split_at(1);
        let expected = format!(
            r#"{{"sid":"room.id","upgrades":{upgrades},"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}}"#
        );
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!((packet_type, read(json)), ("0", read(&expected)));
    }
}

#[test]
fn a_client_connects_to_any_one_namespace() {
    for (packet, namespace, answer) in
        [("40", "/", r#"40{"pid":"p","sid":"s"}"#), ("40/a/b,{}", "/a/b", r#"40/a/b,{"pid":"p","sid":"s"}"#)]
    {
        let mut session = Session::fresh(Transport::WebSocket);
        let Ok(Some(Event::Connect(request))) = session.text(packet) else { panic!("{packet} is no CONNECT") };
        assert_eq!(request.namespace, namespace);
        assert!(!session.engine.is_connected());
        session.engine.accept("s", "p");
        assert!(session.engine.is_connected());
        assert_eq!(session.written(), [answer]);
    }
}

#[test]
fn a_second_namespace_is_refused_and_the_first_lives_on() {
    let mut session = Session::connected(Transport::WebSocket, "/a");
    assert_eq!(session.text("40/b,"), Ok(None));
    assert_eq!(session.text("40"), Ok(None));
    let error = r#"{"message":"a connection serves one namespace"}"#;
    assert_eq!(session.written(), [format!("44/b,{error}"), format!("44{error}")]);
    assert_eq!(session.text("42/a,[\"x\"]"), Ok(None));
    assert_eq!(session.text("40/a,"), Err(Fault::SocketType.into()));
}

#[test]
fn a_client_that_never_fetches_its_refusals_is_not_given_any_number() {
    let mut session = Session::connected(Transport::Polling, "/a");
    for _ in 0..8 {
        assert_eq!(session.text("40/b,"), Ok(None));
    }
    assert_eq!(session.text("40/b,"), Err(Fault::TooManyConnects.into()));
    assert_eq!(session.written().len(), 8);
    assert_eq!(session.text("40/b,"), Ok(None));
}

#[test]
fn a_refused_client_is_told_why() {
    let mut session = Session::fresh(Transport::WebSocket);
    session.text("40/a,").unwrap();
    session.engine.refuse("the room is full");
    assert_eq!(session.written(), [r#"44/a,{"message":"the room is full"}"#]);
    assert!(!session.engine.is_connected());
    assert_eq!(session.text("42/a,[\"x\"]"), Err(Fault::NotConnected.into()));
}

#[test]
fn a_client_that_never_connects_is_closed() {
    let mut session = Session::fresh(Transport::WebSocket);
    assert_eq!(session.engine.poll_timeout(), session.start + Duration::from_secs(10));
    assert_eq!(session.at(9), Ok(()));
    assert_eq!(session.at(10), Err(CloseReason::ConnectTimeout));
}

#[test]
fn messages_come_in_with_their_attachment() {
    for namespace in ["/", "/a"] {
        let prefix = if namespace == "/" { "" } else { "/a," };
        let mut session = Session::connected(Transport::WebSocket, namespace);
        for _ in 0..2 {
            assert_eq!(session.text(&format!(r#"451-{prefix}["message",{{"_placeholder":true,"num":0}}]"#)), Ok(None));
            assert_eq!(session.binary(), Ok(Some(Event::Message)));
        }
    }
}

#[test]
fn of_several_attachments_the_message_is_the_one_that_the_event_names() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    session.text(r#"453-8["message",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#).unwrap();
    assert_eq!(session.binary(), Ok(None));
    assert_eq!(session.binary(), Ok(Some(Event::Message)));
    assert_eq!(session.binary(), Ok(None));
    assert_eq!(session.binary(), Err(Fault::AttachmentUnannounced.into()));
}

#[test]
fn other_events_and_acknowledgements_are_passed_over() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    for packet in [r#"42["hello",1]"#, r#"427["message","text"]"#, "430[]", r#"42[5]"#, "6"] {
        assert_eq!(session.text(packet), Ok(None), "{packet}");
    }
    for packet in [r#"451-["hello",{"_placeholder":true,"num":0}]"#, r#"461-3[{"_placeholder":true,"num":0}]"#] {
        assert_eq!(session.text(packet), Ok(None), "{packet}");
        assert_eq!(session.binary(), Ok(None), "{packet}");
    }
    assert!(session.written().is_empty());
}

#[test]
fn a_client_may_pong_between_a_packet_and_its_attachment() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    session.text(r#"451-["message",{"_placeholder":true,"num":0}]"#).unwrap();
    assert_eq!(session.text("3"), Ok(None));
    assert_eq!(session.binary(), Ok(Some(Event::Message)));
}

#[test]
fn what_breaks_the_protocol_closes_with_the_fault() {
    let check = |packets: &[&str], expected: CloseReason| {
        let mut session = Session::connected(Transport::WebSocket, "/");
        let last = packets.iter().map(|packet| session.text(packet)).last();
        assert_eq!(last, Some(Err(expected)), "{packets:?}");
    };
    let announcement = r#"451-["message",{"_placeholder":true,"num":0}]"#;
    check(&["1"], CloseReason::ClosedByPeer);
    check(&["41"], CloseReason::Disconnected);
    check(&[""], Fault::EngineType.into());
    check(&["0{}"], Fault::EngineType.into());
    check(&["5"], Fault::EngineType.into());
    check(&["x"], Fault::EngineType.into());
    check(&["2"], Fault::Heartbeat.into());
    check(&["4"], Fault::SocketType.into());
    check(&["44{}"], Fault::SocketType.into());
    check(&["41[]"], Fault::Json.into());
    check(&["42"], Fault::Json.into());
    check(&["42{}"], Fault::Json.into());
    check(&["43{}"], Fault::Json.into());
    check(&["42/other,[\"x\"]"], Fault::NotConnected.into());
    check(&["4511-[]"], Fault::TooManyAttachments.into());
    check(&[r#"451-["message",{"_placeholder":true,"num":1}]"#], Fault::Attachments.into());
    check(&[announcement, announcement], Fault::AttachmentMissing.into());
    check(&[announcement, r#"42["x"]"#], Fault::AttachmentMissing.into());
}

#[test]
fn nothing_is_accepted_before_the_connect() {
    let mut session = Session::fresh(Transport::WebSocket);
    assert_eq!(session.text(r#"451-["message",{"_placeholder":true,"num":0}]"#), Err(Fault::NotConnected.into()));
    let mut session = Session::fresh(Transport::WebSocket);
    assert_eq!(session.binary(), Err(Fault::AttachmentUnannounced.into()));
}

#[test]
fn messages_go_out_after_the_connect_answer_with_their_offset_last() {
    let mut session = Session::fresh(Transport::WebSocket);
    session.text("40/a,").unwrap();
    session.engine.accept("s", "p");
    assert_eq!(
        session.message(18_446_744_073_709_551_615, "hi"),
        [
            r#"40/a,{"pid":"p","sid":"s"}"#,
            r#"451-/a,["message",{"_placeholder":true,"num":0},"18446744073709551615.p"]"#,
            "<hi>"
        ]
    );
}

#[test]
fn a_returning_client_brings_back_the_offset_that_it_was_given() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    let head = session.message(41, "hi").swap_remove(0);
    let arguments: serde_json::Value = serde_json::from_str(head.strip_prefix("451-").unwrap()).unwrap();
    let offset = &arguments[2];
    let mut session = Session::fresh(Transport::WebSocket);
    let Ok(Some(Event::Connect(request))) = session.text(&format!(r#"40{{"pid":"p","offset":{offset}}}"#)) else {
        panic!("no CONNECT")
    };
    assert_eq!(request.recovery.unwrap().offset, Some(41));
}

#[test]
fn a_pong_acknowledges_what_was_written_before_its_ping() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    session.message(4, "a");
    session.at(25).unwrap();
    assert_eq!(session.written(), ["2"]);
    session.message(5, "b");
    assert_eq!(session.text("3"), Ok(Some(Event::Acknowledged(4))));
    assert_eq!(session.text("3"), Ok(None));
    session.at(50).unwrap();
    assert_eq!(session.written(), ["2"]);
    assert_eq!(session.at(69), Ok(()));
    assert_eq!(session.at(70), Err(CloseReason::PingTimeout));
}

#[test]
fn a_client_is_sent_away_when_it_has_everything() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    session.engine.send_away(session.now);
    assert_eq!(session.written(), ["9"], "nothing was ever written to it");

    let mut session = Session::connected(Transport::WebSocket, "/");
    session.message(4, "a");
    session.engine.send_away(session.now);
    assert_eq!(session.written(), ["2"]);
    assert_eq!(session.text("3"), Ok(Some(Event::Acknowledged(4))));
    assert_eq!(session.written(), ["9"]);
    assert!(session.written().is_empty(), "it is told once");
}

#[test]
fn a_pong_that_does_not_cover_the_last_message_sends_nobody_away() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    session.message(4, "a");
    session.at(25).unwrap();
    assert_eq!(session.written(), ["2"]);
    session.message(5, "b");
    session.engine.send_away(session.now);
    assert!(session.written().is_empty(), "one ping at a time");
    assert_eq!(session.text("3"), Ok(Some(Event::Acknowledged(4))));
    assert_eq!(session.written(), ["2"]);
    assert_eq!(session.text("3"), Ok(Some(Event::Acknowledged(5))));
    assert_eq!(session.written(), ["9"]);
}

#[test]
fn much_unproven_hastens_a_ping_behind_it() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    assert_eq!(session.message(1, &"x".repeat(99)).len(), 2);
    assert_eq!(session.message(2, "y").last().map(String::as_str), Some("2"));
    assert_eq!(session.message(3, &"z".repeat(500)).len(), 2);
    assert_eq!(session.text("3"), Ok(Some(Event::Acknowledged(2))));
    assert_eq!(session.written(), ["2"]);
}

#[test]
fn a_connected_client_is_told_not_to_come_back() {
    let mut session = Session::connected(Transport::Polling, "/a");
    session.engine.disconnect();
    session.engine.close();
    assert_eq!(session.written(), ["41/a,"]);
    let mut session = Session::fresh(Transport::Polling);
    session.engine.disconnect();
    assert!(session.written().is_empty());
}

#[test]
fn what_the_client_had_sent_before_a_close_is_still_accepted() {
    let mut session = Session::connected(Transport::WebSocket, "/");
    session.engine.close();
    assert!(!session.engine.is_connected());
    assert_eq!(session.text(r#"451-["message",{"_placeholder":true,"num":0}]"#), Ok(None));
    assert_eq!(session.binary(), Ok(Some(Event::Message)));
}

#[test]
fn a_polling_client_is_told_that_its_session_is_closed_in_a_payload_of_its_own() {
    let mut session = Session::connected(Transport::Polling, "/");
    session.engine.close();
    assert!(session.written().is_empty());
    let mut payload = PayloadSink::new();
    session.engine.say_closed(&mut payload);
    assert_eq!(payload.into_body(), b"1");
}

#[test]
fn two_polls_at_once_overlap() {
    let mut session = Session::connected(Transport::Polling, "/");
    assert_eq!(session.engine.begin_poll(), Ok(()));
    assert_eq!(session.engine.begin_poll(), Err(CloseReason::Overlap));
    session.engine.end_poll(session.now);
    assert_eq!(session.engine.begin_poll(), Ok(()));
}

#[test]
fn polling_hands_over_to_a_websocket() {
    let mut session = Session::connected(Transport::Polling, "/");
    session.engine.begin_poll().unwrap();
    session.engine.begin_upgrade(session.now).unwrap();
    assert_eq!(session.engine.begin_upgrade(session.now), Err(UpgradeRefusal::UnderWay));
    assert_eq!(noop(&session), "");
    assert_eq!(session.engine.receive_probe(b"2probe", session.now), Ok(ProbeStep::Answer("3probe")));
    assert_eq!(session.engine.poll_timeout(), session.now);
    assert_eq!(noop(&session), "6");
    session.engine.end_poll(session.now);
    assert_eq!(noop(&session), "");
    assert_eq!(session.engine.receive_probe(b"5", session.now), Ok(ProbeStep::Upgraded));
    assert_eq!(session.engine.transport(), Transport::WebSocket);
    assert_eq!(session.engine.begin_upgrade(session.now), Err(UpgradeRefusal::Upgraded));
    assert_eq!(session.message(1, "a").len(), 2);
}

#[test]
fn an_upgrade_that_fails_or_takes_too_long_leaves_polling_as_it_was() {
    let mut session = Session::connected(Transport::Polling, "/");
    session.engine.begin_upgrade(session.now).unwrap();
    assert_eq!(session.engine.receive_probe(b"42[]", session.now), Err(Fault::EngineType.into()));
    session.engine.abandon_upgrade();
    session.engine.begin_upgrade(session.now).unwrap();
    session.at(10).unwrap();
    assert!(!session.engine.is_upgrading());
    assert_eq!(session.engine.receive_probe(b"2probe", session.now), Err(Fault::EngineType.into()));
    assert_eq!(session.engine.transport(), Transport::Polling);
}

fn noop(session: &Session) -> String {
    let mut sink = PayloadSink::new();
    session.engine.noop(&mut sink, session.now);
    String::from_utf8(sink.into_body()).unwrap()
}
