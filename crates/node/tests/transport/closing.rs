//! Ends of transports: polite, and bounded in time.

use std::time::Duration;

use crate::client::{Client, Frame, frame};
use crate::room::Room;

/// Reads on to the close frame.
async fn close_frame(client: &mut Client) -> (u16, String) {
    loop {
        match client.frame().await {
            Frame::Close(code, reason) => return (code, reason),
            Frame::End => panic!("the connection ended without a close frame"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_close_is_answered_and_the_connection_ends() {
    let room = Room::start().await;
    let (mut host, _guest) = room.pair().await;
    host.close().await;
    assert_eq!(close_frame(&mut host).await, (1000, String::new()));
    assert_eq!(host.frame().await, Frame::End);
}

#[tokio::test]
async fn a_stop_writes_what_is_owed_and_relays_what_peers_had_sent() {
    let mut room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.send(b"owed", &[&guest.peer_id]).await;
    room.stop();
    assert_eq!(close_frame(&mut host).await, (1001, "this server stops".into()));
    assert_eq!(guest.broadcast().await, b"owed");
    assert_eq!(close_frame(&mut guest).await.0, 1001);
    guest.close().await;
    host.close().await;
    assert_eq!((guest.frame().await, host.frame().await), (Frame::End, Frame::End));
    room.stopped().await;
}

#[tokio::test]
async fn a_client_whose_balancer_ends_is_sent_away_and_the_others_stay() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.send(b"owed", &[&guest.peer_id]).await;
    guest.write(&frame(0x89, ctedge_wire::SEND_AWAY)).await;
    assert_eq!(guest.sent_away().await, [b"owed"]);
    guest.send(b"last words", &[&host.peer_id]).await;
    guest.close().await;
    let (former, mut guest) = (guest, Client::websocket(&room, &room.guest_token(1)).await);
    guest.recover(&former).await;
    assert_eq!(host.broadcast().await, b"last words");
    host.send(b"here again", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"here again");
}

#[tokio::test]
async fn what_a_peer_sends_before_it_answers_the_close_is_still_relayed() {
    let room = Room::start().await;
    let (mut host, mut older) = room.pair().await;
    let mut newer = Client::websocket(&room, &room.guest_token(1)).await;
    newer.connect("/").await;
    assert_eq!(close_frame(&mut older).await.1, "displaced");
    older.send(b"on its way", &[&host.peer_id]).await;
    older.close().await;
    assert_eq!(host.broadcast().await, b"on its way");
    assert_eq!(older.frame().await, Frame::End);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_peer_that_never_answers() {
    let mut room = Room::start_with(|settings| settings.timeouts.stop = Duration::from_secs(60)).await;
    let (_host, _guest) = room.pair().await;
    room.stop();
    room.stopped().await;
}

#[tokio::test]
async fn a_peer_that_does_not_pong_is_closed() {
    let room = Room::start_with(|settings| {
        settings.timeouts.ping_interval = Duration::from_millis(10);
        settings.timeouts.ping_timeout = Duration::from_secs(1);
    })
    .await;
    let mut host = Client::websocket(&room, &room.host_token()).await;
    host.connect("/").await;
    let expected = (1008, "the peer did not answer a ping in time".to_owned());
    assert_eq!(close_frame(&mut host).await, expected);
}

#[tokio::test]
async fn a_peer_whose_session_ends_is_told_not_to_come_back() {
    let room = Room::start_with(|settings| settings.timeouts.grace = Duration::from_millis(50)).await;
    let (host, mut guest) = room.pair().await;
    drop(host);
    loop {
        match guest.frame().await {
            Frame::Text(text) if text == "41" => break,
            Frame::Close(..) | Frame::End => panic!("no DISCONNECT before the close"),
            _ => {}
        }
    }
    assert_eq!(close_frame(&mut guest).await, (1000, "session-ended".into()));
}
