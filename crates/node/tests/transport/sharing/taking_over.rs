//! Sessions of nodes that died.

use std::time::Duration;

use tempfile::TempDir;

use super::{back, field, ids, let_in, message, notes, two, until_true};
use crate::client::{Client, content, soon};

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

/// The next message of that kind.
async fn heard(client: &mut Client, kind: &str) -> rmpv::Value {
    loop {
        let message = client.message().await;
        if text(&message, "kind") == kind {
            return message;
        }
    }
}

/// A field of a message, as text.
fn text(message: &rmpv::Value, name: &str) -> String {
    let value = field(message, name);
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
