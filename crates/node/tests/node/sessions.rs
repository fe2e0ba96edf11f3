//! Creating a session, asking to join it, and what its host decides.

use std::time::Duration;

use crate::support::peer::{Peer, field};
use crate::support::{TestNode, info};
use serde_json::json;

/// A session with its host, who has a transport, and the host's room token.
async fn hosted<'a>(node: &'a TestNode, key: &str) -> (Peer<'a>, String) {
    let login = node.login("Host").await;
    let created = node.post("/api/session/create").key(key).token(&login).send().await.json();
    assert_eq!(created["roomId"], key);
    let room_token = created["roomToken"].as_str().unwrap().to_owned();
    (Peer::connect(node, key, &room_token).await, room_token)
}

#[tokio::test]
async fn the_metadata_names_owner_version_and_transports() {
    let node = TestNode::start().await;
    let meta = node.get("/api/meta").send().await.json();
    assert_eq!(meta, json!({"owner": "The <Testers>", "version": "0.3.1", "transports": ["socket.io"]}));
}

#[tokio::test]
async fn without_a_valid_login_there_is_no_session() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    let created = node.post("/api/session/create").token(&login).send().await.json();
    let room_token = created["roomToken"].as_str().unwrap();
    let mut forged = login.clone();
    forged.replace_range(forged.len() - 4.., "AAAA");
    for path in ["/api/session/create", "/api/session/join/room", "/api/session/poll/k.000000000000000000000000"] {
        assert_eq!(node.post(path).send().await.info(), info(403, "Forbidden"), "{path}");
        for token in [&*forged, "nonsense", room_token] {
            assert_eq!(node.post(path).token(token).send().await.info(), info(403, "Forbidden"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_guest_joins_once_the_host_agrees() {
    let node = TestNode::start().await;
    let (mut host, _) = hosted(&node, "room").await;
    let login = node.login("Guest").await;
    let joining = node.post("/api/session/join/room").token(&login).send().await.json();
    assert_eq!(joining["roomId"], "room");
    let poll = format!("/api/session/poll/{}", joining["pollToken"].as_str().unwrap());
    assert!(poll.starts_with("/api/session/poll/room."), "{poll}");

    let first = node.post(&poll).token(&login).send().await.json();
    assert_eq!((&first["code"], &first["failure"]), (&json!("WaitingForHost"), &json!(false)));
    let ask = || node.post(&poll).token(&login).send();
    let (answer, asked) = tokio::join!(ask(), host.answer_join(Some("workspace")));
    assert_eq!(field(&asked.as_array().unwrap()[0], "name").as_str(), Some("Guest"));
    let joined = answer.json();
    assert_eq!(joined["roomId"], "room");
    assert_eq!(joined["workspace"], json!({"name": "workspace", "folders": ["src"]}));
    assert_eq!((&joined["host"]["host"], &joined["host"]["name"]), (&json!(true), &json!("Host")));
    // The answer was perhaps lost on its way: it is given again.
    assert_eq!(ask().await.json()["roomToken"], joined["roomToken"]);

    let mut guest = Peer::connect(&node, "room", joined["roomToken"].as_str().unwrap()).await;
    let told = guest.message().await;
    assert_eq!(field(field(&told, "content"), "method").as_str(), Some("peer/info"));
    let health = node.get("/ct-health/").send().await.json();
    assert_eq!((&health["sessions"], &health["peers"], &health["connections"]), (&json!(1), &json!(2), &json!(2)));
}

#[tokio::test]
async fn a_host_may_refuse() {
    let node = TestNode::start().await;
    let (mut host, _) = hosted(&node, "room").await;
    let login = node.login("Guest").await;
    let joining = node.post("/api/session/join/room").token(&login).send().await.json();
    let poll = format!("/api/session/poll/{}", joining["pollToken"].as_str().unwrap());
    host.answer_join(None).await;
    let answered = |answer: &crate::support::Answer| answer.json()["failure"] == json!(true);
    let answer = node.until(|| node.post(&poll).token(&login), answered).await;
    assert_eq!(answer.info(), info(200, "JoinRejected"));
}

#[tokio::test]
async fn a_host_that_does_not_answer_in_time_has_not_agreed() {
    let node = TestNode::start_with(|settings| settings.timeouts.decision = Duration::from_secs(2)).await;
    let (_host, _) = hosted(&node, "room").await;
    let login = node.login("Guest").await;
    let joining = node.post("/api/session/join/room").token(&login).send().await.json();
    let poll = format!("/api/session/poll/{}", joining["pollToken"].as_str().unwrap());
    assert_eq!(node.post(&poll).token(&login).send().await.info(), info(200, "WaitingForHost"));
    let answer = node.post(&poll).token(&login).send().await;
    assert_eq!((answer.info(), &answer.json()["failure"]), (info(200, "JoinTimeout"), &json!(true)));
}

#[tokio::test]
async fn a_poll_of_a_join_request_answers_204_while_the_host_thinks() {
    let node = TestNode::start_with(|settings| settings.timeouts.poll = Duration::from_millis(20)).await;
    let (_host, _) = hosted(&node, "room").await;
    let login = node.login("Guest").await;
    let joining = node.post("/api/session/join/room").token(&login).send().await.json();
    let poll = format!("/api/session/poll/{}", joining["pollToken"].as_str().unwrap());
    assert_eq!(node.post(&poll).token(&login).send().await.status, 200);
    assert_eq!(node.post(&poll).token(&login).send().await.status, 204);
}

#[tokio::test]
async fn a_session_is_found_only_while_its_host_is_there() {
    let node = TestNode::start().await;
    let login = node.login("Guest").await;
    let join = || node.post("/api/session/join/room").token(&login).send();
    assert_eq!(join().await.info(), info(404, "RoomNotFound"));
    assert_eq!(node.post("/api/session/create").key("room").token(&login).send().await.status, 200);
    assert_eq!(join().await.info(), info(404, "RoomNotFound"), "no host yet");
    assert_eq!(
        node.post("/api/session/join/not%20a%20key").token(&login).send().await.info(),
        info(404, "RoomNotFound")
    );
    for token in ["k.000000000000000000000000", "nonsense"] {
        let path = format!("/api/session/poll/{token}");
        assert_eq!(node.post(&path).token(&login).send().await.info(), info(404, "JoinRequestNotFound"));
    }
}

#[tokio::test]
async fn a_session_whose_host_never_comes_makes_room() {
    let node = TestNode::start_with(|settings| {
        settings.limits.sessions_max = 1;
        settings.timeouts.decision = Duration::from_secs(2);
    })
    .await;
    let login = node.login("Host").await;
    let create = || node.post("/api/session/create").token(&login);
    assert_eq!(create().send().await.status, 200);
    assert_eq!(create().send().await.info(), info(503, "ServerFull"));
    node.until(create, |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_host_brings_back_a_session_that_its_node_lost_and_its_guest_waits_for_it() {
    let lost = TestNode::start().await;
    let (mut host, host_token) = hosted(&lost, "room").await;
    let login = lost.login("Guest").await;
    let joining = lost.post("/api/session/join/room").token(&login).send().await.json();
    host.answer_join(Some("w")).await;
    let poll = format!("/api/session/poll/{}", joining["pollToken"].as_str().unwrap());
    let joined = lost.until(|| lost.post(&poll).token(&login), |answer| answer.json()["roomToken"].is_string()).await;
    let guest_token = joined.json()["roomToken"].as_str().unwrap().to_owned();

    let other = TestNode::start().await;
    let (_, answer) = Peer::knock(&other, "room", &guest_token).await;
    assert_eq!(answer, "1", "closed without a word of Socket.IO, so that the stock client comes again");
    assert_eq!(other.get("/ct-health/").send().await.json()["sessions"], 0);
    Peer::connect(&other, "room", &host_token).await;
    Peer::connect(&other, "room", &guest_token).await;
    let health = other.get("/ct-health/").send().await.json();
    assert_eq!((&health["sessions"], &health["peers"]), (&json!(1), &json!(2)));
}
