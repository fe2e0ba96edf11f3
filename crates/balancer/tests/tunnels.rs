//! WebSockets through the balancer's own tunnels.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Backend, Edge, Reply, until};

async fn echo(number: usize) -> Backend {
    Backend::new(number, |request| {
        if request.header("upgrade").is_some() { Reply::Echo(Vec::new()) } else { Reply::text("plain") }
    })
    .await
}

/// How a node is asked to send a client away: a ping of the client's.
fn send_away() -> Vec<u8> {
    [&[0x89, 0x80 | ctedge_wire::SEND_AWAY.len() as u8, 0, 0, 0, 0], ctedge_wire::SEND_AWAY].concat()
}

async fn open_tunnels(edge: &Edge) -> u64 {
    edge.admin("GET", "/status").await.json()["balancer"]["tunnels"].as_u64().unwrap()
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways() {
    let backend = echo(1).await;
    let edge = Edge::with(&[&backend]).await;
    let mut client = edge.client().await;
    let answer = client.upgrade("/socket.io/?EIO=4&transport=websocket", &[("ctstickiness", "k")], b"").await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    assert_eq!(answer.node(), "node-1");
    for length in [1, 100, 10_000, 1_000_000] {
        let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let (sent_len, send) = (sent.len(), sent.clone());
        // Written in pieces, because an echo of a megabyte must be read while it is written.
        for piece in send.chunks(16 * 1024) {
            client.send(piece).await;
            assert_eq!(client.exactly(piece.len()).await, piece);
        }
        assert_eq!(sent_len, length);
    }
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.key(), "k");
    assert_eq!(seen.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_reader_that_is_slow_loses_nothing() {
    let backend = echo(1).await;
    let edge = Edge::with(&[&backend]).await;
    let mut client = edge.client().await;
    client.upgrade("/ws", &[], b"").await;
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    // More than the socket buffers between here and there hold would block; half a megabyte does not.
    let sent = &sent[..512 * 1024];
    client.send(sent).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(client.exactly(sent.len()).await == sent);
}

#[tokio::test]
async fn bytes_that_come_early_are_not_lost_on_either_side() {
    let backend = Backend::new(1, |_| Reply::Echo(b"hello ".to_vec())).await;
    let edge = Edge::with(&[&backend]).await;
    let mut client = edge.client().await;
    client.upgrade("/ws", &[], b"early").await;
    assert_eq!(client.exactly(11).await, b"hello early");
}

#[tokio::test]
async fn who_has_said_the_last_word_still_listens() {
    let backend = Backend::new(1, |_| Reply::AnswerAtEnd(b"goodbye".to_vec())).await;
    let edge = Edge::with(&[&backend]).await;
    let mut client = edge.client().await;
    client.upgrade("/ws", &[], b"").await;
    client.send(b"that is all").await;
    client.end().await;
    assert_eq!(client.rest().await, b"goodbye");
    until("the tunnel is forgotten", async || open_tunnels(&edge).await == 0).await;
}

#[tokio::test]
async fn a_tunnel_lives_while_either_side_speaks_and_ends_politely_when_none_does() {
    let backend = echo(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.timeouts.tunnel_idle = Duration::from_secs(2);
    let edge = Edge::start(settings).await;
    let mut client = edge.client().await;
    client.upgrade("/ws", &[], b"").await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        // A whole frame, so that the goodbye may come after it.
        client.send(&[0x89, 0x00]).await;
        assert_eq!(client.exactly(2).await, [0x89, 0x00]);
    }
    assert_eq!(client.exactly(4).await, [0x88, 0x02, 0x03, 0xE9], "a close frame: going away");
    client.end().await;
    until("the tunnel is forgotten", async || open_tunnels(&edge).await == 0).await;
}

#[tokio::test]
async fn a_tunnel_to_a_dead_node_is_opened_to_the_next() {
    let mut backends = [echo(1).await, echo(2).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    backends[0].kill().await;
    for number in 0..12 {
        let mut client = edge.client().await;
        let answer = client.upgrade("/ws", &[("ctstickiness", &format!("k{number}"))], b"").await;
        assert_eq!((answer.status, answer.node()), (101, "node-2"));
        client.send(b"ping").await;
        assert_eq!(client.exactly(4).await, b"ping");
    }
}

#[tokio::test]
async fn a_tunnel_follows_redirects() {
    let handler = |number: usize| {
        move |request: &support::backend::Request| match (number, request.key()) {
            (2, "home") => Reply::Echo(Vec::new()),
            (_, "home") => Reply::status(421, &[("x-ctedge-owner", "node-2"), ("x-ctedge-epoch", "1")]),
            _ => Reply::status(421, &[("x-ctedge-key", "home")]),
        }
    };
    let backends = [Backend::new(1, handler(1)).await, Backend::new(2, handler(2)).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    for key in ["a", "b", "c"] {
        let answer = edge.client().await.upgrade("/ws", &[("ctstickiness", key)], b"").await;
        assert_eq!((answer.status, answer.node()), (101, "node-2"));
    }
}

#[tokio::test]
async fn a_refused_tunnel_leaves_the_connection_usable() {
    let backend = Backend::new(1, |request| match request.header("upgrade") {
        Some(_) => Reply::status(401, &[("x-why", "no token"), ("x-ctedge-key", "internal")]),
        None => Reply::text("still here"),
    })
    .await;
    let edge = Edge::with(&[&backend]).await;
    let mut client = edge.client().await;
    let refused = client.upgrade("/ws", &[], b"").await;
    assert_eq!((refused.status, refused.header("x-why"), refused.text()), (401, Some("no token"), "{}"));
    assert_eq!(refused.header("x-ctedge-key"), None);
    assert_eq!(client.request("GET", "/", &[], b"").await.text(), "still here");
}

#[tokio::test]
async fn tunnels_are_bounded_and_given_back() {
    let backend = echo(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.limits.tunnels_max = 1;
    let edge = Edge::start(settings).await;
    let mut first = edge.client().await;
    assert_eq!(first.upgrade("/ws", &[], b"").await.status, 101);
    let refused = edge.client().await.upgrade("/ws", &[], b"").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("TooManyConnections")));
    drop(first);
    until("the tunnel is given back", async || edge.client().await.upgrade("/ws", &[], b"").await.status == 101).await;
}

#[tokio::test]
async fn a_balancer_that_stops_says_goodbye_between_two_frames() {
    let backend = echo(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.timeouts.stop = Duration::from_secs(6);
    let mut edge = Edge::start(settings).await;
    let http = edge.http();
    let mut client = edge.client().await;
    client.upgrade("/ws", &[], b"").await;
    client.send(&[0x82, 0x03, 1, 2, 3]).await;
    assert_eq!(client.exactly(5).await, [0x82, 0x03, 1, 2, 3]);
    edge.stop();
    assert_eq!(client.exactly(send_away().len()).await, send_away());
    until("nobody is accepted any more", async || tokio::net::TcpStream::connect(http).await.is_err()).await;
    // What is said until the end still gets through.
    client.send(&[0x82, 0x01, 9]).await;
    assert_eq!(client.exactly(7).await, [0x82, 0x01, 9, 0x88, 0x02, 0x03, 0xE9]);
    client.end().await;
    client.rest().await;
    edge.ended().await;
}

#[tokio::test]
async fn a_goodbye_waits_for_the_end_of_a_frame() {
    let backend = echo(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.timeouts.stop = Duration::from_secs(5);
    let mut edge = Edge::start(settings).await;
    let (mut quiet, mut client) = (edge.client().await, edge.client().await);
    quiet.upgrade("/ws", &[], b"").await;
    client.upgrade("/ws", &[], b"").await;
    client.send(&[0x82, 0x05, 1, 2]).await;
    assert_eq!(client.exactly(4).await, [0x82, 0x05, 1, 2]);
    edge.stop();
    // The cut comes after half of the time to stop. For one of the two it is in the middle of a frame.
    assert_eq!(quiet.exactly(send_away().len()).await, send_away());
    assert_eq!(quiet.exactly(4).await, [0x88, 0x02, 0x03, 0xE9]);
    client.send(&[3, 4, 5]).await;
    assert_eq!(client.exactly(7).await, [3, 4, 5, 0x88, 0x02, 0x03, 0xE9]);
    edge.ended().await;
}

#[tokio::test]
async fn a_node_is_asked_to_send_a_client_away_where_the_clients_frame_ends() {
    let backend = echo(1).await;
    let mut edge = Edge::with(&[&backend]).await;
    let (mut quiet, mut client) = (edge.client().await, edge.client().await);
    quiet.upgrade("/ws", &[], b"").await;
    client.upgrade("/ws", &[], &[0x82, 0x85, 0]).await;
    assert_eq!(client.exactly(3).await, [0x82, 0x85, 0]);
    edge.stop();
    assert_eq!(quiet.exactly(send_away().len()).await, send_away());
    client.send(&[0, 0, 0, 1, 2, 3, 4, 5]).await;
    assert_eq!(client.exactly(8).await, [0, 0, 0, 1, 2, 3, 4, 5]);
    assert_eq!(client.exactly(send_away().len()).await, send_away());
    // Clients that close in time are not cut.
    for client in [&mut quiet, &mut client] {
        client.end().await;
        assert!(client.rest().await.is_empty());
    }
    edge.ended().await;
}

#[tokio::test]
async fn an_access_line_is_written_when_a_tunnel_ends() {
    let backend = echo(1).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mut settings = support::settings(&[&backend]);
    settings.log.access = Some(path.clone());
    let edge = Edge::start(settings).await;
    let mut client = edge.client().await;
    client.upgrade("/ws?x-oct-jwt=a.secret.token", &[("User-Agent", "tests/1")], b"12345").await;
    client.exactly(5).await;
    drop(client);
    let lines = async || std::fs::read_to_string(&path).unwrap();
    until("the line is there", async || lines().await.contains("\"GET /ws")).await;
    let text = lines().await;
    assert!(text.contains(" 101 ") && text.contains("tests/1"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn the_tunnels_of_a_node_that_goes_down_end_so_that_their_clients_meet_elsewhere() {
    let sick = Arc::new(AtomicBool::new(false));
    let seen_sick = Arc::clone(&sick);
    let backend = Backend::new(1, move |request| match request.path.as_str() {
        "/health" if seen_sick.load(Ordering::Relaxed) => Reply::status(500, &[]),
        "/health" => Reply::text("fine"),
        _ => Reply::Echo(Vec::new()),
    })
    .await;
    let mut settings = support::settings(&[&backend]);
    settings.health.path = "/health".into();
    let edge = Edge::start(settings).await;
    let mut client = edge.client().await;
    client.upgrade("/ws", &[], b"").await;
    client.send(&[0x82, 0x01, 9]).await;
    assert_eq!(client.exactly(3).await, [0x82, 0x01, 9]);
    sick.store(true, Ordering::Relaxed);
    assert_eq!(client.exactly(4).await, [0x88, 0x02, 0x03, 0xE9]);
    client.end().await;
    until("the tunnel is given back", async || open_tunnels(&edge).await == 0).await;
}
