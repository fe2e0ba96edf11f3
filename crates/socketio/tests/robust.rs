//! A stranger's bytes, of any kind and in any order, never panic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_socketio::payload::{self, PayloadPacket};
use ctedge_socketio::{Engine, EngineSettings, Event, PayloadSink, Sink, Transport};
use proptest::prelude::*;

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

/// Bytes as strangers send them: pure noise, and packets with noise in places.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..40);
    let shaped = "[0-7]{0,2}([0-9]{0,3}-)?(/[a-z/]{0,5},?)?[0-9]{0,3}[\\[\\]{}a-z:,\"0-9_]{0,30}";
    let sound = prop::sample::select(vec![
        "40",
        "40/n,{\"pid\":\"p\",\"offset\":\"7\"}",
        "41",
        "42[\"x\"]",
        "451-[\"message\",{\"_placeholder\":true,\"num\":0}]",
        "452-/n,1[\"message\",{\"_placeholder\":true,\"num\":1}]",
        "461-1[]",
        "1",
        "2",
        "2probe",
        "3",
        "5",
        "6",
    ]);
    prop_oneof![noise, shaped.prop_map(String::into_bytes), sound.prop_map(|text| text.as_bytes().to_vec())]
}

/// What may happen to a session.
#[derive(Debug, Clone)]
enum Step {
    Text(Vec<u8>),
    Binary,
    Payload(Vec<u8>),
    Wait(u64),
    Message(u64),
    Poll,
    Probe(Vec<u8>),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => packet().prop_map(Step::Text),
        4 => Just(Step::Binary),
        2 => prop::collection::vec(packet(), 0..4).prop_map(|packets| Step::Payload(packets.join(&0x1e))),
        2 => (0..30_000u64).prop_map(Step::Wait),
        3 => any::<u64>().prop_map(Step::Message),
        1 => Just(Step::Poll),
        2 => packet().prop_map(Step::Probe),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_packets_panics(polling in any::<bool>(), steps in prop::collection::vec(step(), 0..40)) {
        let transport = if polling { Transport::Polling } else { Transport::WebSocket };
        let mut now = Instant::now();
        let mut engine = Engine::new(settings(), transport, now);
        for step in steps {
            // A real transport stops at the first error; going on finds more.
            match step {
                Step::Text(packet) => connect(&mut engine, engine_text(&packet, now)),
                Step::Binary => { let _ = engine.receive_binary(now); }
                Step::Payload(body) => {
                    for packet in payload::packets(&body).flatten() {
                        match packet {
                            PayloadPacket::Text(text) => connect(&mut engine, engine_text(text, now)),
                            PayloadPacket::Binary(_) => { let _ = engine.receive_binary(now); }
                        }
                    }
                }
                Step::Wait(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    let _ = engine.handle_timeout(now);
                }
                Step::Message(offset) if engine.is_connected() => {
                    engine.message(offset, &Bytes::from_static(b"x"), &mut PayloadSink::new());
                }
                Step::Message(_) => {}
                Step::Poll => { let _ = engine.begin_poll(); }
                Step::Probe(packet) => {
                    let _ = engine.begin_upgrade(now);
                    let _ = engine.receive_probe(&packet, now);
                }
                Step::Close => engine.close(),
            }
            let mut sink = PayloadSink::new();
            engine.flush(&mut sink, now);
            engine.noop(&mut sink, now);
            prop_assert!(engine.poll_timeout() <= now + Duration::from_secs(60));
        }
    }

    #[test]
    fn a_payload_is_read_as_it_was_written(packets in prop::collection::vec((any::<bool>(), "[a-z\\[\\]\"]{1,20}"), 1..8)) {
        // A text that starts with `b` is what Base64 is marked by, and no packet type.
        let packets: Vec<_> = packets.into_iter().map(|(binary, text)| (binary, format!("4{text}"))).collect();
        let mut sink = PayloadSink::new();
        for (binary, text) in &packets {
            if *binary { sink.binary(&Bytes::from(text.clone())) } else { sink.text(&[text.as_bytes()]) }
        }
        let body = sink.into_body();
        let read: Vec<_> = payload::packets(&body)
            .map(|packet| match packet.unwrap() {
                PayloadPacket::Text(text) => (false, String::from_utf8(text.to_vec()).unwrap()),
                PayloadPacket::Binary(data) => (true, String::from_utf8(data.to_vec()).unwrap()),
            })
            .collect();
        prop_assert_eq!(read, packets);
    }
}

/// Reads a text packet in a step of its own, so that the engine is free again for the answer.
fn engine_text(packet: &[u8], now: Instant) -> impl FnOnce(&mut Engine) -> Option<Event> {
    move |engine| engine.receive_text(packet, now).ok().flatten()
}

fn connect(engine: &mut Engine, receive: impl FnOnce(&mut Engine) -> Option<Event>) {
    if matches!(receive(engine), Some(Event::Connect(_))) {
        engine.accept("s", "p");
    }
}
