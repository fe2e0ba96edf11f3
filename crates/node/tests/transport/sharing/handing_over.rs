//! Sessions that are handed over.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::{back, ends, ids, let_in, message, notes, refused, two};
use crate::client::{Client, soon};
use crate::polling::{Polling, request};
use crate::room::{Room, share};

/// Reads on until the client is sent away, and goes.
async fn goes(client: &mut Client) {
    client.sent_away().await;
    client.close().await;
}

/// Comes back as the client that `former` was, with what it has missed.
async fn recover(room: &Room, token: &str, former: &Client) -> Client {
    let mut client = Client::websocket(room, token).await;
    client.recover(former).await;
    client
}

#[tokio::test]
async fn a_drained_node_hands_its_sessions_over_and_ends() {
    let folder = TempDir::new().unwrap();
    let (mut first, second) = two(folder.path()).await;
    let (mut host, mut guest) = first.pair().await;
    let before = ids([&host, &guest]);
    host.send(b"read", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"read");
    // The guest is away for a moment, and something is owed to it.
    guest.close().await;
    ends(&mut guest).await;
    host.send(b"owed", &[&guest.peer_id]).await;

    let answer = first.ask("POST", "/ct-control/drain?now=true&exit=true").await;
    assert!(answer.contains("\"status\":\"draining\""), "{answer}");
    goes(&mut host).await;
    first.stopped().await;

    let host = recover(&second, &second.host_token(), &host).await;
    let mut guest = recover(&second, &second.guest_token(1), &guest).await;
    assert_eq!(ids([&host, &guest]), before);
    assert_eq!(guest.broadcast().await, b"owed");
    assert!(guest.head.contains("x-ctedge-node: b\r\n"), "{}", guest.head);
    let text = second.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_ownership_total{event=\"estate_adopted\",reason=\"drain_now\"} 1"), "{text}");
    assert_eq!(notes(folder.path(), "a-").len(), 0, "it has taken its notes along");
}

#[tokio::test]
async fn a_node_that_is_stopped_while_a_session_moves_cuts_who_is_slow_and_hands_it_over() {
    let folder = TempDir::new().unwrap();
    let second = Room::sharing(folder.path(), "b").await;
    let mut first = Room::start_with(|settings| {
        share(settings, folder.path(), "a");
        settings.timeouts.stop = Duration::from_secs(8);
    })
    .await;
    soon(first.hub.gate().opened()).await;
    let (mut host, mut guest) = first.pair().await;
    first.ask("POST", "/ct-control/drain?now=true").await;
    goes(&mut host).await;
    first.stop();
    let trickling = async {
        // A message of a megabyte, byte by byte: the drain alone would wait for it for a minute.
        guest.write(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]).await;
        while guest.stream.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(trickling, first.stopped());
    recover(&second, &second.host_token(), &host).await;
    let text = second.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_ownership_total{event=\"estate_adopted\",reason=\"drain_now\"} 1"), "{text}");
}

#[tokio::test]
async fn who_asks_a_node_for_a_session_that_it_hands_over_waits_and_is_sent_on() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, _guest) = first.pair().await;
    first.ask("POST", "/ct-control/drain?now=true").await;
    goes(&mut host).await;
    // The guest says nothing: until it is cut, the session is neither here nor there.
    let headers = first.headers(&first.host_token());
    let waits = first.until_metric("ctedge_node_waiting{what=\"owner\"}", |waiting| waiting == 1);
    let (answer, ()) = tokio::join!(refused(&first, &headers), soon(waits));
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let address = format!("x-ctedge-address: {}\r\n", second.address);
    assert!(answer.contains("x-ctedge-owner: b\r\n") && answer.contains(&address), "{answer}");
    back(&second, &second.host_token()).await;
    assert_eq!(first.health().await.drain.map(|drain| (drain.sessions, drain.phase.as_str())), Some((0, "done")));
}

#[tokio::test]
async fn who_brings_a_running_transport_to_the_wrong_node_is_sent_on_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (polling, _) = Polling::connected(&first, &first.host_token()).await;
    // A balancer that has just been started has no pins, and takes the key's first rank for the session's node.
    let headers = second.headers("");
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", polling.sid);
    let answer = soon(Client::upgrade(&second, &path, &headers)).await.err().unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("x-ctedge-owner: a\r\n"), "{answer}");
    assert_eq!(request(&second, "POST", &polling.path(), &headers, "2").await.0, 421);
    // Its own node can say that there is no such transport.
    assert_eq!(request(&first, "GET", &polling.path().replace("room.", "room.0"), &headers, "").await.0, 400);
    assert_eq!(polling.post("3").await, (200, "ok".into()));
}

#[tokio::test]
async fn a_balancer_that_can_send_a_body_only_once_finds_out_before_where_it_belongs() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (polling, _) = Polling::connected(&first, &first.host_token()).await;
    let control = format!("x-ctedge-control: {}\r\n", crate::room::settings().secret.control_token());
    let ask = async |room: &Room, sid: &str, headers: &str| {
        let path = format!("/ct-control/owner?EIO=4&transport=polling&sid={sid}");
        request(room, "GET", &path, &format!("host: node\r\n{headers}"), "").await.0
    };
    let of_key = |key: &str| format!("{control}ctstickiness: {key}\r\n");
    assert_eq!(ask(&first, &polling.sid, &of_key("room")).await, 204);
    assert_eq!(ask(&second, &polling.sid, &of_key("room")).await, 421);
    // What the request carries decides, not what it was placed by.
    assert_eq!(ask(&first, &polling.sid, &of_key("other")).await, 204, "the transport is here");
    assert_eq!(ask(&second, &polling.sid, &of_key("other")).await, 421);
    // What is nobody's may come here.
    assert_eq!(ask(&second, "", &of_key("nobody")).await, 204);
    assert_eq!(ask(&second, "", &control).await, 400);
    assert_eq!(ask(&first, &polling.sid, "ctstickiness: room\r\n").await, 403);
    assert_eq!(polling.post("3").await, (200, "ok".into()));
}

#[tokio::test]
async fn the_key_of_a_session_that_is_over_is_free_everywhere() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, mut guest) = first.pair().await;
    let content = rmpv::Value::Map(vec![("method".into(), "room/leave".into())]);
    host.say(&message("notification", &[("target", "".into()), ("content", content)])).await;
    host.close().await;
    ends(&mut host).await;
    guest.close().await;
    ends(&mut guest).await;
    // A host begins it anew wherever it comes.
    let host_again = let_in(&second, &second.host_token()).await;
    assert!(host_again.head.contains("x-ctedge-node: b\r\n"), "{}", host_again.head);
}

#[tokio::test]
async fn sessions_outlast_the_stop_and_start_of_the_only_node() {
    let folder = TempDir::new().unwrap();
    let mut room = Room::sharing(folder.path(), "a").await;
    let (mut host, mut guest) = room.pair().await;
    guest.close().await;
    ends(&mut guest).await;
    host.send(b"owed", &[&guest.peer_id]).await;
    room.stop();
    goes(&mut host).await;
    room.stopped().await;
    let room = Room::sharing(folder.path(), "a").await;
    let host_again = recover(&room, &room.host_token(), &host).await;
    let mut guest_again = recover(&room, &room.guest_token(1), &guest).await;
    assert_eq!(ids([&host_again, &guest_again]), ids([&host, &guest]));
    assert_eq!(guest_again.broadcast().await, b"owed");
}

#[tokio::test]
async fn a_plan_says_what_a_drain_would_move_and_where_to() {
    let folder = TempDir::new().unwrap();
    let (first, _second) = two(folder.path()).await;
    let _pair = first.pair().await;
    let plan = first.ask("GET", "/ct-control/plan").await;
    let expected = r#"{"sessions":1,"peers":2,"targets":[{"node":"b","sessions":1,"peers":2}]}"#;
    assert!(plan.contains(expected), "{plan}");
}
