//! Sessions that change their node: handed over, taken over, let go.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ctedge_node::hub::{CloseReason, Handshake, Pending};
use ctedge_ownership::{Command, Estate, HandoffReason, LeaseEnd, LeaseId, NodeId, Outcome};
use ctedge_store::Store;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use crate::client::{Client, Frame, PUBLIC_KEY, broadcast, content, soon};
use crate::polling::{Polling, request};
use crate::room::{LOST_AFTER, Room, share, store_in};

const SOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Two nodes that share, `a` and `b`. The first one knows the second.
async fn two(folder: &Path) -> (Room, Room) {
    let second = Room::sharing(folder, "b").await;
    let first = Room::sharing(folder, "a").await;
    soon(first.until_metric("ctedge_node_store_commands_total{result=\"ok\"}", |commands| commands >= 2)).await;
    (first, second)
}

/// Reads on until the client is sent away, and goes.
async fn goes(client: &mut Client) {
    client.sent_away().await;
    client.close().await;
}

/// Reads what is left until the connection ends. Gives the broadcasts.
async fn ends(client: &mut Client) -> Vec<Vec<u8>> {
    let mut broadcasts = Vec::new();
    loop {
        match client.frame().await {
            Frame::End => return broadcasts,
            Frame::Binary(data) => broadcasts.extend(content(&rmpv::decode::read_value(&mut &*data).unwrap())),
            _ => {}
        }
    }
}

/// Comes back to whichever node has the session, as a balancer would bring it there.
async fn back(room: &Room, token: &str) -> Client {
    let mut client = Client::websocket(room, token).await;
    client.connect("/").await;
    client
}

/// Comes back as the client that `former` was, with what it has missed.
async fn recover(room: &Room, token: &str, former: &Client) -> Client {
    let mut client = Client::websocket(room, token).await;
    client.recover(former).await;
    client
}

/// Asks until the node lets the bearer of the token in.
async fn let_in(room: &Room, token: &str) -> Client {
    let knocking = async {
        loop {
            if let Ok(client) = Client::upgrade(room, SOCKET, &room.headers(token)).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut client = soon(knocking).await;
    let Frame::Text(_) = client.frame().await else { panic!("the first frame is the handshake") };
    client.connect("/").await;
    client
}

/// The answer of a node that does not let somebody in.
async fn refused(room: &Room, headers: &str) -> String {
    match soon(Client::upgrade(room, SOCKET, headers)).await {
        Ok(_) => panic!("the session is not here"),
        Err(answer) => answer,
    }
}

fn ids(clients: [&Client; 2]) -> [String; 2] {
    clients.map(|client| client.peer_id.clone())
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
async fn the_sessions_of_a_node_that_died_go_on_with_the_same_peers() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, mut guest) = first.pair().await;
    let before = ids([&host, &guest]);
    host.send(b"who are you", &[&guest.peer_id]).await;
    guest.broadcast().await;
    guest.send(b"a guest", &[&host.peer_id]).await;
    host.broadcast().await;
    drop(first);
    let mut host = let_in(&second, &second.host_token()).await;
    assert_eq!(second.health().await.peers, 2, "the guest is within its grace period");
    let guest = back(&second, &second.guest_token(1)).await;
    assert_eq!(ids([&host, &guest]), before);
    // Nobody has heard that anybody left or joined.
    let mut guest = guest;
    guest.send(b"at home", &[&host.peer_id]).await;
    assert_eq!(content(&host.message().await).as_deref(), Some(&b"at home"[..]));
    let text = second.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_ownership_total{event=\"taken_over\",reason=\"silent\"} 1"), "{text}");
}

/// Waits until the store knows of a host and a guest.
async fn pair_written(folder: &Path) {
    until_true(folder, "SELECT COUNT(*) = 2 FROM peers WHERE session_key = 'room'").await;
}

/// Waits until the store says that it is so.
async fn until_true(folder: &Path, question: &'static str) {
    let url = format!("sqlite:{}", folder.join("ctedge.db").display());
    let mut store = SqliteConnection::connect(&url).await.unwrap();
    let becomes_true = async {
        while !sqlx::query_scalar::<_, bool>(question).fetch_one(&mut store).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(becomes_true).await;
}

#[tokio::test]
async fn who_waits_for_a_response_when_its_node_dies_hears_that_there_will_be_none() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, mut guest) = first.pair().await;
    guest.say(&message("request", &[("id", 7.into()), ("target", (&*host.peer_id).into())])).await;
    // As soon as anybody has heard of it.
    heard(&mut host, "request").await;
    drop(first);
    let mut guest = let_in(&second, &second.guest_token(1)).await;
    let response = guest.message().await;
    assert_eq!((text(&response, "kind"), text(&response, "id")), ("response-error".into(), "7".into()));
    // Only the node that found the other one silent knew what it had noted.
    assert_eq!(notes(folder.path(), "a-").len(), 0);
    // Nor does it fail once more at the owner after this one.
    until_true(folder.path(), "SELECT in_flight IS NULL FROM sessions WHERE session_key = 'room'").await;
}

#[tokio::test]
async fn who_has_a_response_when_its_node_dies_hears_of_no_error() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, mut guest) = first.pair().await;
    guest.say(&message("request", &[("id", 7.into()), ("target", (&*host.peer_id).into())])).await;
    let id = field(&heard(&mut host, "request").await, "id").clone();
    host.say(&message("response", &[("id", id)])).await;
    heard(&mut guest, "response").await;
    // The last note says of the session `room` that nothing is in flight.
    let is_noted = || notes(folder.path(), "a-").iter().any(|notes| notes.ends_with(b"room\0\0\0\0"));
    let noting = async {
        while !is_noted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(noting).await;
    drop(first);
    let mut guest = let_in(&second, &second.guest_token(1)).await;
    let mut host = back(&second, &second.host_token()).await;
    host.send(b"goes on", &[&guest.peer_id]).await;
    assert_eq!(content(&guest.message().await).as_deref(), Some(&b"goes on"[..]));
}

/// What is noted in files whose names begin so.
fn notes(folder: &Path, name: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder.join("notes")).unwrap().map(|entry| entry.unwrap().path());
    let of_it = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    files.filter(of_it).map(|path| std::fs::read(path).unwrap()).collect()
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

/// A message of a peer, with whatever content.
fn message(kind: &str, more: &[(&str, rmpv::Value)]) -> Vec<u8> {
    let mut fields: Vec<(rmpv::Value, rmpv::Value)> =
        vec![("version".into(), "0.3.1".into()), ("kind".into(), kind.into()), ("origin".into(), "".into())];
    fields.extend(more.iter().map(|(name, value)| ((*name).into(), value.clone())));
    let no_keys = rmpv::Value::Map(vec![("keys".into(), rmpv::Value::Array(Vec::new()))]);
    let no_compression = rmpv::Value::Map(vec![("algorithm".into(), "none".into())]);
    let metadata = vec![("encryption".into(), no_keys), ("compression".into(), no_compression)];
    fields.push(("metadata".into(), rmpv::Value::Map(metadata)));
    if !more.iter().any(|(name, _)| *name == "content") {
        fields.push(("content".into(), rmpv::Value::Binary(b"encrypted".to_vec())));
    }
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(fields)).unwrap();
    bytes
}

/// The next message of that kind.
async fn heard(client: &mut Client, kind: &str) -> rmpv::Value {
    loop {
        let message = client.message().await;
        if text(&message, "kind") == kind {
            return message;
        }
    }
}

/// A field of a message.
fn field<'m>(message: &'m rmpv::Value, name: &str) -> &'m rmpv::Value {
    let (_, value) = message.as_map().unwrap().iter().find(|(key, _)| key.as_str() == Some(name)).unwrap();
    value
}

/// A field of a message, as text.
fn text(message: &rmpv::Value, name: &str) -> String {
    let value = field(message, name);
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[tokio::test]
async fn a_node_whose_lease_was_ended_lets_go_and_begins_anew() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, _guest) = first.pair().await;
    let peer_id = host.peer_id.clone();
    pair_written(folder.path()).await;
    let incarnation = first.health().await.incarnation;
    let store = Store::open(&store_in(folder.path())).await.unwrap();
    let lease = LeaseId::new(NodeId::new("a"), incarnation);
    store.execute(Command::EndLease { lease, beat: None, why: LeaseEnd::Exited }).await.unwrap();

    assert!(ends(&mut host).await.is_empty());
    assert_eq!(back(&second, &second.host_token()).await.peer_id, peer_id);
    soon(first.hub.gate().opened()).await;
    let health = first.health().await;
    assert_ne!(health.incarnation, incarnation);
    assert_eq!((health.sessions, health.peers), (0, 0));
    let answer = refused(&first, &first.headers(&first.host_token())).await;
    assert!(answer.contains("x-ctedge-owner: b\r\n"), "{answer}");
}

/// Gives the session away behind its node's back: from here on the store says that `to` owns it.
async fn give_away(folder: &Path, from: &Room, to: &Room) {
    let store = Store::open(&store_in(folder)).await.unwrap();
    let Ok(Outcome::Found(record)) = store.execute(Command::Look { key: from.key.clone() }).await else {
        panic!("the session is in the store")
    };
    let by = LeaseId::new(NodeId::new("a"), from.health().await.incarnation);
    assert_eq!(record.owner, by);
    let to = LeaseId::new(NodeId::new("b"), to.health().await.incarnation);
    let (key, epoch) = (record.key, record.epoch);
    let Ok(Outcome::Owned { legacy, .. }) =
        store.execute(Command::Read { key: key.clone(), epoch, by: by.clone() }).await
    else {
        panic!("{by:?} owns the session")
    };
    // With its peers, so that `to` goes on with it.
    let (estate, reason) = (Estate { peers: legacy.peers, ..Estate::default() }, HandoffReason::DrainNow);
    let taken = Command::HandOff { key, epoch, by, to: Some(to), estate, reason };
    assert!(matches!(store.execute(taken).await, Ok(Outcome::HandedOff { .. })));
}

#[tokio::test]
async fn a_node_that_learns_that_a_session_is_not_its_own_any_more_closes_its_connections() {
    let folder = TempDir::new().unwrap();
    let (first, second) = two(folder.path()).await;
    let (mut host, mut guest) = first.pair().await;
    let other = Client::upgrade(&first, SOCKET, &first.headers_of("other")).await;
    pair_written(folder.path()).await;
    give_away(folder.path(), &first, &second).await;

    // What it writes next about the session is refused.
    guest.say(&message("request", &[("id", 7.into()), ("target", (&*host.peer_id).into())])).await;
    ends(&mut host).await;
    assert!(ends(&mut guest).await.is_empty());
    let health = first.health().await;
    assert_eq!((health.sessions, health.peers), (1, 1), "the other session stays");
    drop(other);
    let answer = refused(&first, &first.headers(&first.host_token())).await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("x-ctedge-owner: b\r\n"), "{answer}");
    let text = first.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_ownership_total{event=\"fenced\",reason=\"epoch_passed\"} 1\n"), "{text}");
}

#[tokio::test]
async fn a_message_waits_until_its_node_has_made_sure_that_the_session_is_its_own() {
    let folder = TempDir::new().unwrap();
    let room = Room::start_with(|settings| {
        share(settings, folder.path(), "a");
        // Between two heartbeats the node does not know for most of the time.
        settings.lease.beat = 3 * LOST_AFTER;
    })
    .await;
    let gate = room.hub.gate();
    soon(gate.opened()).await;
    let (mut host, mut guest) = room.pair().await;
    let is_closed = async {
        while gate.is_open(Instant::now()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(is_closed).await;
    host.send(b"in between", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"in between");
    assert!(gate.is_open(Instant::now()), "it was relayed before the next heartbeat");
}

#[tokio::test]
async fn a_peer_that_sends_more_than_may_wait_for_that_goes() {
    let folder = TempDir::new().unwrap();
    let room = Room::start_with(|settings| {
        share(settings, folder.path(), "a");
        settings.lease.beat = 5 * LOST_AFTER;
        (settings.limits.message_bytes_max, settings.limits.outbox_bytes_max) = (50_000, 100_000);
    })
    .await;
    soon(room.hub.gate().opened()).await;
    let mut host = back(&room, &room.host_token()).await;
    // Without a transport, which would stop reading.
    let handshake = Handshake::new(PUBLIC_KEY, None, None);
    let guest = room.hub.attach(Some(&room.key), &[], &room.guest_token(1), handshake).await.unwrap();
    let is_closed = async {
        while room.hub.gate().is_open(Instant::now()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(is_closed).await;
    for number in 0..4 {
        guest.receive(&broadcast(&[number; 40_000], &[&host.peer_id]));
    }
    let text = room.ask("GET", "/metrics").await;
    assert!(text.contains("ctedge_node_messages_dropped_total{reason=\"held_full\"} 2\n"), "{text}");
    let held = text.lines().find_map(|line| line.strip_prefix("ctedge_node_held_bytes ")).unwrap();
    assert!((80_000..=100_000).contains(&held.parse::<u64>().unwrap()), "{held}");

    assert_eq!(host.broadcasts(2).await, [vec![0; 40_000], vec![1; 40_000]]);
    let left = soon(std::future::poll_fn(|cx| guest.poll_pending(cx, u64::MAX, 1, &mut |_, _| ()))).await;
    assert_eq!(left, Pending::Close { reason: CloseReason::HeldFull });
    assert_eq!(room.health().await.peers, 1);
}

#[tokio::test]
async fn without_the_store_a_node_serves_what_it_owns_and_begins_nothing() {
    let folder = TempDir::new().unwrap();
    let room = Room::sharing(folder.path(), "a").await;
    let (mut host, mut guest) = room.pair().await;
    pair_written(folder.path()).await;
    // Another process that never lets go of the file is as good as no file.
    let url = format!("sqlite:{}", folder.path().join("ctedge.db").display());
    let mut hog = SqliteConnection::connect(&url).await.unwrap();
    hog.execute("BEGIN EXCLUSIVE").await.unwrap();
    let is_away = async {
        while room.health().await.store.as_str() == "ok" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(is_away).await;
    tokio::time::sleep(2 * LOST_AFTER).await;
    host.send(b"all the same", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"all the same");
    let other = room.headers_of("other");
    let answer = refused(&room, &other).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");

    hog.execute("ROLLBACK").await.unwrap();
    let is_back = async {
        while Client::upgrade(&room, SOCKET, &other).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(is_back).await;
    host.send(b"still", &[&guest.peer_id]).await;
    assert_eq!(guest.broadcast().await, b"still");
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

/// Names the folder of the store to the process of a node.
const FOLDER: &str = "CTEDGE_TEST_FOLDER";

#[tokio::test]
#[ignore = "the process of a node that another test starts"]
async fn a_node_in_a_process_of_its_own() {
    let room = Room::sharing(Path::new(&std::env::var(FOLDER).unwrap()), "frozen").await;
    println!("\nlistens at {}", room.address);
    // The other test has the other end of this.
    let _ = tokio::io::stdin().read_u8().await;
}

/// Starts a node in a process of its own. `room` speaks to it from then on.
async fn start(folder: &Path, room: &mut Room) -> Child {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sharing::a_node_in_a_process_of_its_own", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = async {
        loop {
            if let Some(address) = lines.next_line().await.unwrap().unwrap().strip_prefix("listens at ") {
                return address.parse().unwrap();
            }
        }
    };
    room.address = soon(address).await;
    child
}

async fn signal(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

/// Stops every thread of a process. The last one stops a moment after the signal.
async fn stop(child: &Child) {
    signal(child, "-STOP").await;
    let tasks = format!("/proc/{}/task", child.id().unwrap());
    let is_stopped = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let stopping = async {
        while !std::fs::read_dir(&tasks).unwrap().all(|task| is_stopped(task.unwrap())) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(stopping).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_for_a_while_relays_nothing_and_lets_go() {
    let folder = TempDir::new().unwrap();
    let second = Room::sharing(folder.path(), "b").await;
    let mut first = Room::start().await;
    let child = start(folder.path(), &mut first).await;
    let (mut host, mut guest) = first.pair().await;
    let before = ids([&host, &guest]);
    pair_written(folder.path()).await;

    stop(&child).await;
    // This waits in the socket for the node to go on.
    host.send(b"to a session that is not there any more", &[&guest.peer_id]).await;
    let host_again = let_in(&second, &second.host_token()).await;
    let guest_again = back(&second, &second.guest_token(1)).await;
    assert_eq!(ids([&host_again, &guest_again]), before);

    signal(&child, "-CONT").await;
    assert_eq!(ends(&mut guest).await, Vec::<Vec<u8>>::new());
    assert_eq!(ends(&mut host).await, Vec::<Vec<u8>>::new());
    let is_empty = async {
        while first.health().await.sessions > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(is_empty).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_for_a_moment_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut room = Room::start().await;
    let child = start(folder.path(), &mut room).await;
    let (mut host, mut guest) = room.pair().await;
    stop(&child).await;
    host.send(b"late, but here", &[&guest.peer_id]).await;
    // Nobody else is there who could have missed it.
    tokio::time::sleep(2 * LOST_AFTER).await;
    signal(&child, "-CONT").await;
    assert_eq!(guest.broadcast().await, b"late, but here");
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
