//! How long a session takes for one delivered broadcast: `cargo bench -p ctedge-session`.
//!
//! A guest's broadcast goes to every other peer, with the sizes that clients send: 256 bytes of contents and an entry of
//! about 700 bytes in `keys` for each receiver. Receivers read and acknowledge everything at once, so that memory goes
//! round as it does in a node that keeps up.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_protocol::{Handshake, PeerId, RoomClaim, User, msgpack};
use ctedge_session::{Attached, Beginning, Session, SessionLimits};
use ctedge_wire::Key;

const CONTENT_BYTES: usize = 256;
const KEY_BYTES: usize = 684;
const ROUNDS: u32 = 5;
const MESSAGES: u32 = 100_000;

fn main() {
    for peers in [2, 5, 20] {
        let best = (0..ROUNDS).map(|_| measure(peers)).min().unwrap_or_default();
        println!("{peers:>2} peers: {:>4} ns per delivered broadcast", best.as_nanos());
    }
}

/// The time of one delivery, of a run of many.
fn measure(peers: usize) -> Duration {
    let now = Instant::now();
    let (mut session, attached) = session(peers, now);
    let message = broadcast(peers);
    let sender = attached[1].peer;
    let mut cursors = vec![0; peers];
    let mut deliver = |cursors: &mut Vec<u64>| {
        session.receive(sender, black_box(&message), now);
        while let Some(action) = session.next_action() {
            black_box(action);
        }
        for (cursor, peer) in cursors.iter_mut().zip(&attached) {
            if let Some((offset, message)) = session.outbox(peer.peer).and_then(|outbox| outbox.after(*cursor).last()) {
                black_box(message);
                *cursor = offset;
            }
            session.acknowledge(peer.peer, *cursor);
        }
    };
    deliver(&mut cursors);
    let start = Instant::now();
    for _ in 0..MESSAGES {
        deliver(&mut cursors);
    }
    let elapsed = start.elapsed() / MESSAGES;
    let delivered = session.take_counters().delivered;
    let expected = u64::from(MESSAGES + 1) * (peers as u64 - 1);
    assert!(delivered >= expected, "only {delivered} of {expected} were delivered");
    elapsed / u32::try_from(peers - 1).unwrap_or(1)
}

fn session(peers: usize, now: Instant) -> (Session, Vec<Attached>) {
    let key = Key::mint(&[1; 32]);
    let beginning = Beginning::created(Duration::from_millis(1));
    let mut session = Session::new(key.clone(), SessionLimits::default(), beginning, &[2; 32], now);
    let attached = (0..peers)
        .map(|index| {
            let user = User { id: "u".into(), name: "Ada".into(), email: None, auth_provider: "Unverified".into() };
            let room_clock = beginning.host_clock + index as u64;
            let claim = RoomClaim { room: key.clone(), room_clock, user, host: index == 0 };
            let handshake = Handshake::new("public key", Some("bench"), Some("gzip"));
            session.attach(&claim, PeerId::new(&peer_id(index)), handshake, now).expect("the session takes its peers")
        })
        .collect();
    (session, attached)
}

fn peer_id(index: usize) -> String {
    format!("{index:024}")
}

/// A broadcast of peer 1, with the fields in the order of the stock client.
fn broadcast(peers: usize) -> Bytes {
    let mut out = Vec::new();
    msgpack::write_map(&mut out, 5);
    text(&mut out, "version", "0.3.1");
    text(&mut out, "kind", "broadcast");
    msgpack::write_str(&mut out, "metadata");
    msgpack::write_map(&mut out, 2);
    msgpack::write_str(&mut out, "encryption");
    msgpack::write_map(&mut out, 1);
    msgpack::write_str(&mut out, "keys");
    msgpack::write_array(&mut out, peers as u32 - 1);
    for index in (0..peers).filter(|index| *index != 1) {
        msgpack::write_map(&mut out, 3);
        text(&mut out, "target", &peer_id(index));
        text(&mut out, "key", &"k".repeat(KEY_BYTES));
        text(&mut out, "iv", "0123456789abcdef");
    }
    msgpack::write_str(&mut out, "compression");
    msgpack::write_map(&mut out, 1);
    text(&mut out, "algorithm", "gzip");
    text(&mut out, "origin", "");
    msgpack::write_str(&mut out, "content");
    out.extend_from_slice(&[0xc5, (CONTENT_BYTES >> 8) as u8, CONTENT_BYTES as u8]);
    out.extend_from_slice(&[0; CONTENT_BYTES]);
    Bytes::from(out)
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    msgpack::write_str(out, name);
    msgpack::write_str(out, value);
}
