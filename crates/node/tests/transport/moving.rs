//! A session moves to another node, and nobody loses anything by it.

use std::time::{Duration, Instant};

use ctedge_node::hub::Export;
use tokio::task::JoinHandle;

use crate::client::{AWAY, Client, Frame, POLLING_AWAY, content, soon};
use crate::polling::{Polling, contents, request};
use crate::room::Room;

/// Begins to move the session.
fn export(room: &Room) -> JoinHandle<Option<Export>> {
    let (hub, key) = (room.hub.clone(), room.key.clone());
    tokio::spawn(async move { hub.export(&key, Duration::from_secs(60)).await })
}

/// The session's next owner, once it has left its former one.
async fn next_owner(room: &Room, leaving: JoinHandle<Option<Export>>) -> Room {
    let exported = soon(leaving).await.unwrap().expect("the session is there");
    let next = Room::start().await;
    next.hub.adopt(&room.key, &exported.estate, exported.peers.len(), 2).unwrap();
    room.hub.let_go(&room.key);
    next
}

/// Comes back to another node.
async fn back(room: &Room, token: &str, former: &Client) -> Client {
    let mut client = Client::websocket(room, token).await;
    client.recover(former).await;
    assert_eq!((&client.peer_id, &client.pid), (&former.peer_id, &former.pid));
    client
}

#[tokio::test]
async fn nothing_is_lost_between_websockets_that_move() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    host.send(b"read", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"read");
    host.send(b"written, but not handled", &[&guest.peer_id]).await;
    let leaving = export(&room);
    assert!(host.sent_away().await.is_empty());
    // The client sends on until it acts on what it was told.
    host.send(b"sent up to the close", &[&guest.peer_id]).await;
    host.close().await;
    // The guest goes before it has proven what it has.
    guest.send(b"last words", &[&host.peer_id]).await;
    guest.close().await;
    let next = next_owner(&room, leaving).await;
    let (mut host, mut guest) =
        (back(&next, &next.host_token(), &host).await, back(&next, &next.guest_token(1), &guest).await);
    // The guest named an offset before what it had not handled.
    assert_eq!(guest.broadcasts(2).await, [b"written, but not handled".to_vec(), b"sent up to the close".to_vec()]);
    assert_eq!(host.broadcast().await, b"last words");
    host.send(b"at home", &[&guest.peer_id]).await;
    let first = guest.message().await;
    assert_eq!(content(&first).as_deref(), Some(&b"at home"[..]), "nobody has left or joined");
}

#[tokio::test]
async fn what_a_client_has_handled_is_not_delivered_again() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    let leaving = export(&room);
    host.send(b"handled", &[&guest.peer_id]).await;
    host.sent_away().await;
    host.close().await;
    assert_eq!(guest.broadcast().await, b"handled");
    guest.sent_away().await;
    guest.close().await;
    let next = next_owner(&room, leaving).await;
    let (mut host, mut guest) =
        (back(&next, &next.host_token(), &host).await, back(&next, &next.guest_token(1), &guest).await);
    host.send(b"once", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"once");
}

#[tokio::test]
async fn a_client_that_does_not_understand_is_closed_and_read_until_it_has_closed_too() {
    let room = Room::start().await;
    let (mut host, guest) = room.pair().await;
    let guest_id = guest.peer_id.clone();
    drop(guest);
    let leaving = export(&room);
    host.sent_away().await;
    assert_eq!(host.frame().await, Frame::Close(1012, "moved".into()));
    host.send(b"before its close", &[&guest_id]).await;
    host.close().await;
    let next = next_owner(&room, leaving).await;
    let mut guest = Client::websocket(&next, &next.guest_token(1)).await;
    guest.connect("/").await;
    assert_eq!(guest.broadcast().await, b"before its close");
}

#[tokio::test]
async fn a_client_is_not_sent_away_before_it_has_proven_what_it_has() {
    let room = Room::start().await;
    let (_host, mut guest) = room.pair().await;
    let _leaving = export(&room);
    loop {
        match guest.frame().await {
            Frame::Text(text) => assert_ne!(text, AWAY),
            Frame::Close(code, reason) => break assert_eq!((code, &*reason), (1012, "moved")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_client_that_neither_reads_nor_closes_is_cut_and_loses_nothing() {
    let room = Room::start().await;
    let (mut host, guest) = room.pair().await;
    // More than the sockets' buffers take.
    let large = vec![7; 4_000_000];
    for _ in 0..3 {
        host.send(&large, &[&guest.peer_id]).await;
    }
    let (begun, leaving) = (Instant::now(), export(&room));
    host.sent_away().await;
    host.close().await;
    let next = next_owner(&room, leaving).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    // The connection itself ends soon too, though its peer does not read.
    soon(async {
        while room.hub.connections().count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let mut guest = back(&next, &next.guest_token(1), &guest).await;
    for _ in 0..3 {
        assert!(guest.broadcast().await == large);
    }
}

#[tokio::test]
async fn a_polling_client_is_sent_away_and_its_posts_on_their_way_are_taken() {
    let room = Room::start().await;
    let (polling, host_id) = Polling::connected(&room, &room.host_token()).await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    // What greets a peer, so that the next poll waits; the last of it is what the client has.
    let greeting = polling.get().await.1;
    let offset = greeting.rsplit_once(",\"").unwrap().1.split('"').next().unwrap();
    let leaving = export(&room);
    let (polled, ()) = tokio::join!(polling.get(), polling.send(b"during the poll", &guest.peer_id));
    assert_eq!(polled, (200, POLLING_AWAY.into()));
    polling.send(b"on its way", &guest.peer_id).await;
    polling.post("1").await;
    assert_eq!(guest.broadcasts(2).await, [b"during the poll".to_vec(), b"on its way".to_vec()]);
    guest.send(b"owed", &[&host_id]).await;
    guest.sent_away().await;
    guest.close().await;
    let next = next_owner(&room, leaving).await;
    let polling = Polling::open(&next, &next.host_token()).await;
    let recovery = format!(r#"40{{"pid":"{}","offset":"{offset}"}}"#, guest.pid);
    assert_eq!(polling.post(&recovery).await, (200, "ok".into()));
    let (status, body) = polling.get().await;
    assert!(status == 200 && body.contains(&host_id) && body.matches("451-").count() == 1, "{body}");
    assert_eq!(contents(&body), [b"owed"]);
}

#[tokio::test]
async fn a_polling_client_that_was_sent_away_posts_what_it_still_has_while_its_poll_waits() {
    let room = Room::start().await;
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    polling.get().await;
    let leaving = export(&room);
    assert_eq!(polling.get().await, (200, POLLING_AWAY.into()));
    let posts = async {
        polling.send(b"gathered", &guest.peer_id).await;
        polling.send(b"behind a body", &guest.peer_id).await;
        "posted"
    };
    // Biased: both may be ready in the end, and the first is to be that.
    let mut poll = std::pin::pin!(polling.get());
    tokio::select! {
        biased;
        posted = posts => assert_eq!(posted, "posted"),
        polled = &mut poll => panic!("{polled:?} amid its posts"),
    }
    assert_eq!(guest.broadcasts(2).await, [b"gathered".to_vec(), b"behind a body".to_vec()]);
    assert_eq!(polling.post("1").await, (200, "ok".into()));
    assert_eq!(poll.await, (200, "1".into()));
    guest.sent_away().await;
    guest.close().await;
    next_owner(&room, leaving).await;
}

#[tokio::test]
async fn a_polling_client_in_its_upgrade_is_sent_away_when_that_is_over() {
    let room = Room::start().await;
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    polling.post("3").await;
    let mut socket = polling.probe().await;
    socket.text("2probe").await;
    assert_eq!(socket.frame().await, Frame::Text("3probe".into()));
    let leaving = export(&room);
    while polling.get().await.1 != "6" {}
    socket.text("5").await;
    socket.sent_away().await;
    socket.close().await;
    next_owner(&room, leaving).await;
}

#[tokio::test]
async fn a_polling_client_between_two_polls_hears_of_it_at_the_next() {
    let room = Room::start().await;
    let (polling, _) = Polling::connected(&room, &room.host_token()).await;
    let leaving = export(&room);
    while polling.get().await.1 != POLLING_AWAY {}
    next_owner(&room, leaving).await;
}

#[tokio::test]
async fn an_upgraded_client_moves_like_any_other() {
    let room = Room::start().await;
    let (polling, host_id) = Polling::connected(&room, &room.host_token()).await;
    let mut socket = polling.probe().await;
    socket.text("2probe").await;
    assert_eq!(socket.frame().await, Frame::Text("3probe".into()));
    socket.text("5").await;
    let mut guest = Client::websocket(&room, &room.guest_token(1)).await;
    guest.connect("/").await;
    let leaving = export(&room);
    socket.sent_away().await;
    socket.send(b"up to the close", &[&guest.peer_id]).await;
    socket.close().await;
    assert_eq!(guest.broadcast().await, b"up to the close");
    guest.send(b"owed", &[&host_id]).await;
    guest.sent_away().await;
    guest.close().await;
    let next = next_owner(&room, leaving).await;
    let mut host = Client::websocket(&next, &next.host_token()).await;
    host.connect("/").await;
    assert_eq!(host.peer_id, host_id);
    assert_eq!(host.broadcast().await, b"owed");
}

#[tokio::test]
async fn a_session_that_was_let_go_is_cut_and_relays_no_more() {
    let room = Room::start().await;
    let (mut host, mut guest) = room.pair().await;
    room.hub.let_go(&room.key);
    for client in [&mut host, &mut guest] {
        loop {
            match client.frame().await {
                Frame::Close(code, reason) => assert_eq!((code, &*reason), (1012, "moved")),
                Frame::End => break,
                Frame::Text(text) => assert!(!text.starts_with("41"), "the client is to come again"),
                _ => {}
            }
        }
    }
    assert_eq!(room.hub.totals().peers, 0);
}

#[tokio::test]
async fn answers_name_the_owner_of_a_session_whose_ownership_is_shared() {
    let room = Room::start().await;
    let (mut host, _) = room.pair().await;
    assert!(!host.head.contains("x-ctedge-epoch"), "{}", host.head);
    let leaving = export(&room);
    host.close().await;
    let next = next_owner(&room, leaving).await;
    let host = Client::websocket(&next, &next.host_token()).await;
    assert!(host.head.contains("x-ctedge-node: node-1\r\n") && host.head.contains("x-ctedge-epoch: 2\r\n"));
}

#[tokio::test]
async fn handshakes_beyond_the_pace_wait_and_hosts_go_first() {
    let room = Room::start_with(|settings| settings.limits.handshakes_per_second = 1).await;
    let (_host, _guest) = room.pair().await;
    let begun = Instant::now();
    let order = tokio::sync::Mutex::new(Vec::new());
    let guest = async {
        let _socket = Client::websocket(&room, &room.guest_token(2)).await;
        order.lock().await.push("guest");
    };
    let another = async {
        let _socket = Client::websocket(&room, &room.guest_token(3)).await;
        order.lock().await.push("guest");
    };
    let host = async {
        // It comes after the guests, but before the first of them has had its turn.
        soon(async {
            let both_wait = "ctedge_node_waiting{what=\"handshake\"} 2";
            let own = format!("host: {}\r\n", room.address);
            while !request(&room, "GET", "/metrics", &own, "").await.1.contains(both_wait) {}
        })
        .await;
        let _socket = Client::websocket(&room, &room.host_token()).await;
        order.lock().await.push("host");
    };
    tokio::join!(guest, another, host);
    assert_eq!(*order.lock().await, ["host", "guest", "guest"]);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}
