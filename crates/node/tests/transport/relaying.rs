//! Messages between peers.

use serde_json::json;

use crate::client::{Client, Frame, broadcast, frame};
use crate::room::Room;

#[tokio::test]
async fn peers_hear_each_other_in_order() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    for number in 0..200u8 {
        host.send(&[number], &[&guest.peer_id]).await;
        guest.send(&[number, number], &[&host.peer_id]).await;
    }
    let expected: Vec<Vec<u8>> = (0..200).map(|number| vec![number]).collect();
    assert_eq!(guest.broadcasts(200).await, expected);
    let expected: Vec<Vec<u8>> = (0..200).map(|number| vec![number, number]).collect();
    assert_eq!(host.broadcasts(200).await, expected);
}

#[tokio::test]
async fn many_messages_in_one_write_arrive_each() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    let burst: Vec<u8> =
        (0..1000u16).flat_map(|number| host.message_frames(&number.to_be_bytes(), &[&guest.peer_id])).collect();
    host.write(&burst).await;
    let expected: Vec<Vec<u8>> = (0..1000u16).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(guest.broadcasts(1000).await, expected);
}

#[tokio::test]
async fn a_message_of_megabytes_passes_between_small_ones() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    let large: Vec<u8> = (0..3 << 20).map(|index: u32| (index % 251) as u8).collect();
    let target = guest.peer_id.clone();
    let sending = async {
        host.send(b"before", &[&target]).await;
        host.send(&large, &[&target]).await;
        host.send(b"after", &[&target]).await;
    };
    let ((), received) = tokio::join!(sending, guest.broadcasts(3));
    assert!(received == [b"before".to_vec(), large, b"after".to_vec()]);
}

#[tokio::test]
async fn a_namespace_is_the_clients_own_choice() {
    let room = Room::start().await;
    let mut host = Client::websocket(&room, &room.host_token()).await;
    host.connect("/some/path").await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    host.send(b"to the default namespace", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"to the default namespace");
    guest.send(b"and back", &[&host.peer_id]).await;
    assert_eq!(host.broadcast().await, b"and back");
}

#[tokio::test]
async fn fragments_and_pings_in_between_are_understood() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.text(r#"451-["message",{"_placeholder":true,"num":0}]"#).await;
    let message = broadcast(b"in two pieces", &[&guest.peer_id]);
    let (first, second) = message.split_at(20);
    host.write(&[frame(0x02, first), frame(0x89, b"are you there"), frame(0x80, second)].concat()).await;
    assert_eq!(guest.broadcast().await, b"in two pieces");
    loop {
        match host.frame().await {
            Frame::Pong(payload) => break assert_eq!(payload, b"are you there"),
            Frame::Text(_) | Frame::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn frames_in_the_same_segment_as_the_request_are_read() {
    let room = Room::start().await;
    let headers = room.headers(&room.host_token());
    let path = "/socket.io/?EIO=4&transport=websocket";
    let mut host = Client::upgrade_at_once(&room, path, &headers, &frame(0x81, b"40")).await.unwrap();
    host.frame().await;
    host.connected().await;
}

#[tokio::test]
async fn a_browser_may_name_its_token_in_the_connect() {
    let room = Room::start().await;
    let headers = "host: node\r\norigin: http://page.example\r\n";
    let mut page = Client::upgrade(&room, "/socket.io/?EIO=4&transport=websocket", headers).await.unwrap();
    page.frame().await;
    let auth = json!({"x-oct-jwt": room.host_token(), "x-oct-public-key": "key"});
    page.text(&format!("40{auth}")).await;
    page.connected().await;
}

#[tokio::test]
async fn a_client_without_a_valid_token_is_refused_for_good() {
    let room = Room::start().await;
    for (token, message) in [("forged", "the room token is not valid"), ("", "the room token is not valid")] {
        let mut client = Client::websocket(&room, token).await;
        client.text("40").await;
        let error = json!({ "message": message });
        assert_eq!(client.packet().await, format!("44{error}"));
        assert_eq!(client.frame().await, Frame::Close(1000, "the connect was refused".into()));
    }
}

#[tokio::test]
async fn a_guest_before_its_host_is_closed_so_that_it_comes_again() {
    let room = Room::start().await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.text("40").await;
    assert_eq!(guest.frame().await, Frame::Close(1000, "the connect was refused".into()));
}

#[tokio::test]
async fn a_client_at_the_wrong_node_is_sent_to_its_key() {
    let room = Room::start().await;
    let headers = room.headers(&room.host_token()).replace("ctstickiness: room", "ctstickiness: another");
    let Err(head) = Client::upgrade(&room, "/socket.io/?EIO=4&transport=websocket", &headers).await else {
        panic!("the session is of another key")
    };
    assert!(head.starts_with("HTTP/1.1 421 ") && head.contains("x-ctedge-key: room\r\n"), "{head}");
}
