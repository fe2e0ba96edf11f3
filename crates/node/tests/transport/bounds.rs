//! What a stranger may not do, and what it is told.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Client, Frame, frame, soon};
use crate::room::Room;

async fn check(bytes: &[u8], code: u16, reason: &str) {
    let room = Room::start_with(|settings| settings.limits.message_bytes_max = 1000).await;
    let mut host = Client::websocket(&room, &room.host_token()).await;
    host.connect("/").await;
    host.write(bytes).await;
    loop {
        match host.frame().await {
            Frame::Close(found, text) => break assert_eq!((found, &*text), (code, reason)),
            Frame::End => panic!("closed without a reason"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn whatever_breaks_a_protocol_is_closed_with_its_reason() {
    check(&frame(0x82, &[0; 1001]), 1009, "a message over the bound").await;
    check(&[0x81, 1, b'3'], 1002, "a frame without a mask").await;
    check(&frame(0x83, b""), 1002, "malformed frame").await;
    check(&frame(0x81, b"2"), 1002, "malformed input: a ping from the client").await;
    check(&frame(0x81, b"42{"), 1002, "malformed input: unreadable JSON in a packet").await;
    check(&frame(0x81, b"42[\"\xff\"]"), 1007, "malformed input: text that is not UTF-8").await;
    check(&frame(0x82, b"x"), 1002, "malformed input: an attachment without its packet").await;
    check(&frame(0x81, b"4511-[]"), 1002, "malformed input: more than 10 attachments").await;
    check(&frame(0x81, b"41"), 1000, "the peer disconnected").await;
    check(&frame(0x81, b"1"), 1000, "the peer closed the transport").await;
}

#[tokio::test]
async fn connections_are_bounded_and_come_back() {
    let room = Room::start_with(|settings| settings.limits.connections_max = 1).await;
    let mut only = Client::websocket(&room, &room.host_token()).await;
    let headers = room.headers(&room.host_token());
    let Err(head) = Client::upgrade(&room, "/socket.io/?EIO=4&transport=websocket", &headers).await else {
        panic!("the node is full")
    };
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: "), "{head}");
    let text = room.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_refusals_total{reason=\"connections_full\"} 1\n"), "{text}");
    only.close().await;
    while only.frame().await != Frame::End {}
    let mut next = Client::websocket(&room, &room.host_token()).await;
    next.connect("/").await;
}

#[tokio::test]
async fn handshakes_beyond_the_queue_are_refused_and_counted() {
    let room = Room::start_with(|settings| settings.limits.handshakes_per_second = 1).await;
    let request = format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n{}\r\n", room.headers_of("other"));
    let mut streams = Vec::new();
    // One enters, ten seconds' worth wait.
    for _ in 0..20 {
        let mut stream = TcpStream::connect(room.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    soon(room.until_metric("ctedge_node_refusals_total{reason=\"handshake_pace\"}", |refused| refused >= 5)).await;
    soon(room.until_metric("ctedge_node_waiting{what=\"handshake\"}", |waiting| (1..=10).contains(&waiting))).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_and_harms_nobody() {
    let room = Room::start_with(|settings| {
        settings.limits.outbox_bytes_max = 1 << 20;
        settings.timeouts.ping_interval = Duration::from_millis(200);
        // The host answers no ping while it says all of this: it must have the time.
        settings.timeouts.ping_timeout = Duration::from_secs(15);
    })
    .await;
    let (mut host, mut sleeper) = room.pair().await;
    let mut awake = Client::websocket(&room, &room.guest_token(2)).await;
    awake.connect("/").await;
    let targets = [sleeper.peer_id.as_str(), awake.peer_id.as_str()].map(str::to_owned);
    // 20 MB are more than the sockets' buffers and the outbox hold together.
    for number in 0..400u16 {
        let mut content = vec![0; 50_000];
        content[..2].copy_from_slice(&number.to_be_bytes());
        host.send(&content, &[&targets[0], &targets[1]]).await;
        assert_eq!(awake.broadcast().await[..2], number.to_be_bytes());
    }
    let mut received = 0;
    loop {
        match sleeper.frame().await {
            Frame::Binary(data) if data.len() > 50_000 => received += 1,
            Frame::Close(..) | Frame::End => break assert!(received < 400),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_answered_in_the_words_of_engine_io() {
    let room = Room::start().await;
    let headers = room.headers(&room.host_token());
    let check = async |path: &str, expected: &str| {
        let Err(head) = Client::upgrade(&room, path, &headers).await else { panic!("{path} was upgraded") };
        assert!(head.starts_with("HTTP/1.1 400 "), "{path}: {head}");
        assert!(head.contains(&format!("content-length: {}\r\n", expected.len())), "{path}: {head}");
    };
    check("/socket.io/?EIO=3&transport=websocket", r#"{"code":5,"message":"Unsupported protocol version"}"#).await;
    check("/socket.io/?EIO=4&transport=pigeon", r#"{"code":0,"message":"Transport unknown"}"#).await;
    check("/socket.io/?EIO=4&transport=websocket&sid=none", r#"{"code":1,"message":"Session ID unknown"}"#).await;
}
