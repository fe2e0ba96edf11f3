//! A cut transport loses nothing.

use std::time::Duration;

use crate::client::{Client, Frame};
use crate::room::Room;

#[tokio::test]
async fn what_was_sent_meanwhile_is_delivered_once_and_in_order() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.send(b"1", &[&guest.peer_id]).await;
    host.send(b"2", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcasts(2).await, [b"1", b"2"]);
    host.send(b"3", &[&guest.peer_id]).await;
    let former = guest;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    host.send(b"4", &[&former.peer_id]).await;
    guest.recover(&former).await;
    assert_eq!((&guest.peer_id, &guest.pid), (&former.peer_id, &former.pid));
    assert_eq!(guest.broadcasts(2).await, [b"3", b"4"]);
}

#[tokio::test]
async fn without_an_offset_everything_unproven_is_delivered_again() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.send(b"1", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"1");
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    assert_eq!(guest.broadcast().await, b"1");
}

#[tokio::test]
async fn an_offset_of_another_life_of_the_session_is_not_believed() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.send(b"1", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"1");
    let (pid, offset) = (guest.pid.clone(), guest.offset.clone());
    let mut former = guest;
    for (pid, offset) in [("another-life", offset), (&*pid, Some("9999.life".into()))] {
        (former.pid, former.offset) = (pid.to_owned(), offset);
        let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
        guest.recover(&former).await;
        assert_eq!(guest.broadcast().await, b"1");
    }
}

#[tokio::test]
async fn a_pong_proves_receipt() {
    let room = Room::start_with(|settings| settings.timeouts.ping_interval = Duration::from_millis(20)).await;
    let (mut host, mut guest) = room.pair().await;
    host.send(b"1", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"1");
    // Two pings: one may have been on its way before the message.
    for _ in 0..2 {
        while guest.frame().await != Frame::Text("2".into()) {}
        guest.text("3").await;
    }
    // What the guest says after its pong is handled after it.
    guest.send(b"heard", &[&host.peer_id]).await;
    assert_eq!(host.broadcast().await, b"heard");
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    host.send(b"2", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"2");
}

#[tokio::test]
async fn many_unproven_bytes_bring_a_ping_at_once() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.send(&vec![0; 100_000], &[&guest.peer_id]).await;
    let mut has_message = false;
    loop {
        match guest.frame().await {
            Frame::Binary(data) => has_message |= data.len() > 100_000,
            Frame::Text(text) if text == "2" => break assert!(has_message),
            Frame::Text(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_newer_transport_displaces_the_older() {
    let room = Room::start().await;
    let (_host, mut older) = room.pair().await;
    let mut newer = Client::websocket(&room, &room.guest_token(1)).await;
    newer.connect("/").await;
    loop {
        match older.frame().await {
            Frame::Close(code, reason) => break assert_eq!((code, &*reason), (1000, "displaced")),
            Frame::Text(text) => assert!(!text.starts_with("41"), "the client must not be sent away"),
            _ => {}
        }
    }
}
