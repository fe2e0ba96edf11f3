//! Polling, and the upgrade from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Client, Frame, POLLING_AWAY, broadcast, content, soon};
use crate::room::Room;

/// A polling session.
pub(crate) struct Polling<'a> {
    room: &'a Room,
    headers: String,
    pub(crate) sid: String,
}

impl<'a> Polling<'a> {
    pub(crate) async fn open(room: &'a Room, token: &str) -> Self {
        let headers = room.headers(token);
        let (status, body) = request(room, "GET", "/socket.io/?EIO=4&transport=polling", &headers, "").await;
        assert_eq!(status, 200, "{body}");
        let handshake: serde_json::Value = serde_json::from_str(body.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(handshake["upgrades"], serde_json::json!(["websocket"]));
        let sid = handshake["sid"].as_str().unwrap().to_owned();
        assert!(sid.starts_with("room."), "{sid} names the key of the request");
        Self { room, headers: "host: node\r\n".to_owned(), sid }
    }

    /// A session with its CONNECT answered and everything else that greets it fetched; gives the peer's id.
    pub(crate) async fn connected(room: &'a Room, token: &str) -> (Self, String) {
        let polling = Self::open(room, token).await;
        assert_eq!(polling.post("40").await, (200, "ok".into()));
        let answer = polling.get().await.1;
        let ids = answer.split('\u{1e}').next().unwrap().strip_prefix("40").unwrap().to_owned();
        let ids: serde_json::Value = serde_json::from_str(&ids).unwrap();
        (polling, ids["sid"].as_str().unwrap().to_owned())
    }

    pub(crate) fn path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid)
    }

    pub(crate) async fn get(&self) -> (u16, String) {
        request(self.room, "GET", &self.path(), &self.headers, "").await
    }

    pub(crate) async fn post(&self, body: &str) -> (u16, String) {
        request(self.room, "POST", &self.path(), &self.headers, body).await
    }

    pub(crate) async fn send(&self, data: &[u8], target: &str) {
        let head = r#"451-["message",{"_placeholder":true,"num":0}]"#;
        let body = format!("4{}\u{1e}b{}", &head[1..], STANDARD.encode(broadcast(data, &[target])));
        assert_eq!(self.post(&body).await, (200, "ok".into()));
    }

    /// Polls until a peer's broadcast comes.
    pub(crate) async fn broadcast(&self) -> Vec<u8> {
        loop {
            let (status, body) = self.get().await;
            assert_eq!(status, 200, "{body}");
            if let Some(content) = contents(&body).into_iter().next() {
                return content;
            }
        }
    }

    pub(crate) async fn probe(&self) -> Client {
        let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid);
        Client::upgrade(self.room, &path, &self.headers).await.unwrap()
    }
}

/// The contents of the broadcasts in a payload.
pub(crate) fn contents(body: &str) -> Vec<Vec<u8>> {
    let messages = body.split('\u{1e}').filter_map(|packet| packet.strip_prefix('b'));
    let decoded = messages.map(|data| STANDARD.decode(data).unwrap());
    decoded.filter_map(|data| content(&rmpv::decode::read_value(&mut &*data).unwrap())).collect()
}

pub(crate) async fn request(room: &Room, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(room.address).await.unwrap();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    };
    soon(exchange).await
}

/// Waits until so many are there, be it with a WebSocket or a poll.
async fn until_present(room: &Room, count: usize) {
    let connections = room.hub.connections();
    soon(async {
        while connections.present() != count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_who_polls_is_present_with_a_poll_alone() {
    let room = Room::start().await;
    let mut host = Client::websocket(&room, &room.host_token()).await;
    host.connect("/").await;
    let (guest, _) = Polling::connected(&room, &room.guest_token(1)).await;
    until_present(&room, 1).await;
    assert_eq!(room.hub.connections().count(), 2);
    let mut poll = TcpStream::connect(room.address).await.unwrap();
    poll.write_all(format!("GET {} HTTP/1.1\r\nhost: node\r\n\r\n", guest.path()).as_bytes()).await.unwrap();
    until_present(&room, 2).await;
    drop(poll);
    until_present(&room, 1).await;
    host.close().await;
    until_present(&room, 0).await;
}

#[tokio::test]
async fn a_polling_peer_and_one_on_a_websocket_hear_each_other() {
    let room = Room::start().await;
    let (host, host_id) = Polling::connected(&room, &room.host_token()).await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    host.send(b"by post", &guest.peer_id).await;
    assert_eq!(guest.broadcast().await, b"by post");
    guest.send(b"by poll", &[&host_id]).await;
    assert_eq!(host.broadcast().await, b"by poll");
}

#[tokio::test]
async fn a_waiting_poll_is_answered_when_something_comes() {
    let room = Room::start().await;
    let (host, host_id) = Polling::connected(&room, &room.host_token()).await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    let targets = [&*host_id];
    let (heard, ()) = tokio::join!(host.broadcast(), guest.send(b"wake up", &targets));
    assert_eq!(heard, b"wake up");
}

#[tokio::test]
async fn polling_is_upgraded_to_a_websocket() {
    let room = Room::start().await;
    let (polling, peer_id) = Polling::connected(&room, &room.host_token()).await;
    let mut socket = polling.probe().await;
    let poll = polling.get();
    let probe = async {
        socket.text("2probe").await;
        assert_eq!(socket.frame().await, Frame::Text("3probe".into()));
    };
    let (polled, ()) = tokio::join!(poll, probe);
    assert_eq!(polled, (200, "6".into()));
    socket.text("5").await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    guest.send(b"upgraded", &[&peer_id]).await;
    assert_eq!(socket.broadcast().await, b"upgraded");
    socket.send(b"and back", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"and back");
    assert_eq!(polling.get().await.0, 400);
}

#[tokio::test]
async fn messages_right_behind_the_upgrade_are_not_lost() {
    let room = Room::start().await;
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    let mut socket = polling.probe().await;
    socket.text("2probe").await;
    assert_eq!(socket.frame().await, Frame::Text("3probe".into()));
    let behind = socket.message_frames(b"right behind", &[&guest.peer_id]);
    socket.write(&[crate::client::frame(0x81, b"5"), behind].concat()).await;
    assert_eq!(guest.broadcast().await, b"right behind");
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_polling_as_it_was() {
    let room = Room::start().await;
    let (polling, peer_id) = Polling::connected(&room, &room.host_token()).await;
    let mut socket = polling.probe().await;
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", polling.sid);
    let Err(head) = Client::upgrade(&room, &path, &polling.headers).await else { panic!("two probes at once") };
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    socket.close().await;
    while socket.frame().await != Frame::End {}
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    guest.send(b"still polling", &[&peer_id]).await;
    assert_eq!(polling.broadcast().await, b"still polling");
    polling.probe().await;
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let room = Room::start().await;
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    let (first, second) = tokio::join!(polling.get(), polling.get());
    let mut answers = [first, second];
    answers.sort();
    assert_eq!(answers[0], (200, "1".into()));
    assert_eq!(answers[1].0, 400);
}

#[tokio::test]
async fn a_malformed_or_oversized_post_is_refused() {
    let room = Room::start_with(|settings| settings.limits.message_bytes_max = 1000).await;
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    assert_eq!(polling.post("42{").await.0, 400);
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    assert_eq!(polling.post(&"x".repeat(100_000)).await.0, 413);
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    assert_eq!(polling.post("b%%%").await.0, 400);
}

#[tokio::test]
async fn a_client_that_closes_is_gone_at_once() {
    let room = Room::start().await;
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    let (poll, close) = tokio::join!(polling.get(), polling.post("1"));
    assert_eq!((poll, close), ((200, "1".into()), (200, "ok".into())));
}

#[tokio::test]
async fn a_stop_lets_a_polling_client_fetch_what_it_is_owed_and_then_sends_it_away() {
    let mut room = Room::start().await;
    let host_token = room.host_token();
    let (polling, host_id) = Polling::connected(&room, &host_token).await;
    let (sid, headers) = (polling.sid.clone(), polling.headers.clone());
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    guest.send(b"owed", &[&host_id]).await;
    // The pong shows that the message before the ping was taken before the stop.
    guest.write(&crate::client::frame(0x89, b"")).await;
    while guest.frame().await != Frame::Pong(Vec::new()) {}
    room.stop();
    guest.sent_away().await;
    guest.close().await;
    let polling = Polling { room: &room, headers, sid };
    assert_eq!(polling.broadcast().await, b"owed");
    assert_eq!(polling.get().await, (200, POLLING_AWAY.into()));
    room.stopped().await;
}

#[tokio::test]
async fn a_polling_client_whose_balancer_ends_is_sent_away_and_what_it_still_says_is_taken() {
    let room = Room::start().await;
    let (waiting, _) = Polling::connected(&room, &room.host_token()).await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    waiting.get().await;
    // A poll that waits has no word of the end yet; the next request has.
    let headers = format!("{}x-ctedge-leaving: 1\r\n", waiting.headers);
    let polling = Polling { room: &room, headers, sid: waiting.sid.clone() };
    let (polled, ()) = tokio::join!(waiting.get(), polling.send(b"with the word", &guest.peer_id));
    assert_eq!(polled, (200, POLLING_AWAY.into()));
    polling.send(b"gathered", &guest.peer_id).await;
    assert_eq!(polling.post("1").await, (200, "ok".into()));
    assert_eq!(guest.broadcasts(2).await, [b"with the word".to_vec(), b"gathered".to_vec()]);
    let (again, _) = Polling::connected(&room, &room.host_token()).await;
    again.send(b"here again", &guest.peer_id).await;
    assert_eq!(guest.broadcast().await, b"here again");
}
