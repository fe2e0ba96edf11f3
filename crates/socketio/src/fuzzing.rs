//! What holds for any bytes of a client. The fuzz targets and the test command call the same functions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::payload::{self, PayloadPacket};
use crate::{CloseReason, Engine, EngineSettings, Event, PayloadSink, Sink, Transport};

/// The most that a client makes a session owe it beside messages, however much it sends without reading.
const OWED_BYTES_MAX: usize = 8 * 1024;

/// What stands for an event of the transport where a client's packet would begin. A packet begins with a digit.
const WAIT: u8 = b'W';
const MESSAGE: u8 = b'M';
const POLL: u8 = b'P';
const PROBE: u8 = b'U';
const CLOSE: u8 = b'C';

/// A polling body is read packet by packet, and what is read can be written and read again.
pub fn payload(body: &[u8]) {
    let Ok(packets) = payload::packets(body).collect::<Result<Vec<_>, _>>() else { return };
    let mut sink = PayloadSink::new();
    for packet in &packets {
        match packet {
            PayloadPacket::Text(text) => sink.text(&[text]),
            PayloadPacket::Binary(data) => sink.binary(data),
        }
    }
    // A packet that is empty is no packet; the first one of a body leaves no trace in another.
    if packets.first() != Some(&PayloadPacket::Text(b"")) {
        let written = sink.into_body();
        assert_eq!(payload::packets(&written).collect::<Result<Vec<_>, _>>(), Ok(packets));
    }
}

/// A session that gets these packets, as a transport hands them in, ends with a reason or goes on. What it owes is bounded
/// even if nobody fetches it, and it always has a deadline.
pub fn engine(packets: &[u8], start: Instant) {
    let settings = EngineSettings {
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(10),
        payload_bytes_max: 1_000_000,
        unproven_bytes_max: 100,
        unproven_max: Duration::from_secs(2),
    };
    let transport = if packets.first() == Some(&WAIT) { Transport::WebSocket } else { Transport::Polling };
    let mut now = start;
    let mut engine = Engine::new(Arc::new(settings), transport, now);
    let mut ended = false;
    for packet in packets.split(|byte| *byte == 0x1e) {
        ended = step(&mut engine, packet, &mut now).is_err();
        assert!(engine.poll_timeout() <= now + Duration::from_secs(60));
        if ended {
            break;
        }
    }
    let mut owed = PayloadSink::new();
    engine.flush(&mut owed, now);
    assert!(owed.len() <= OWED_BYTES_MAX, "{} bytes are owed", owed.len());
    assert!(ended || !engine.is_connected() || engine.poll_timeout() >= start);
}

fn step(engine: &mut Engine, packet: &[u8], now: &mut Instant) -> Result<(), CloseReason> {
    match packet {
        [WAIT, seconds, ..] => {
            *now += Duration::from_secs(u64::from(*seconds));
            engine.handle_timeout(*now)?;
        }
        [MESSAGE, offset, ..] if engine.is_connected() => {
            // Written into a body of its own, as for a poll that is answered.
            engine.message(u64::from(*offset), &Bytes::from_static(b"message"), &mut PayloadSink::new());
        }
        [POLL, ..] => {
            engine.begin_poll()?;
            let mut answer = PayloadSink::new();
            engine.flush(&mut answer, *now);
            engine.noop(&mut answer, *now);
            engine.end_poll(*now);
        }
        [PROBE, rest @ ..] => {
            let _ = engine.begin_upgrade(*now);
            if engine.receive_probe(rest, *now).is_err() {
                engine.abandon_upgrade();
            }
        }
        [CLOSE, ..] => engine.close(),
        [b'b', ..] => {
            let _ = engine.receive_binary(*now)?;
        }
        text => {
            if let Some(Event::Connect(request)) = engine.receive_text(text, *now)? {
                assert!(request.namespace.starts_with('/'));
                engine.accept("sid", "pid");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    use super::*;

    #[test]
    fn no_bytes_break_a_payload() {
        hostile::check("payload", payload);
    }

    #[test]
    fn no_packets_break_a_session_or_make_it_owe_without_bound() {
        hostile::check("engine", |packets| engine(packets, Instant::now()));
    }
}
