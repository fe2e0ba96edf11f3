//! What a node does under a license: whom it lets begin a session, and how many it seats.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::peer::Peer;
use crate::support::{Answer, DEADLINE, TestNode, info};
use ctedge_license::{FileKind, License, Locator, PrivateKey, Terms};
use ctedge_settings::{LicenseSettings, NodeSettings};
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;

fn key() -> PrivateKey {
    PrivateKey::from_random(&[5; 32])
}

/// Puts a license for so many connections into the folder.
fn license(folder: &Path, connections: u32, expiration: &str) {
    let terms = Terms::new("Example Corp", connections, expiration.parse().unwrap(), Locator::Anywhere).unwrap();
    let text = License::sign(terms, &key()).write(FileKind::Properties);
    fs::write(folder.join("licensing.properties"), text).unwrap();
}

/// Settings of a node that finds its license in the folder.
fn licensed(folder: &Path) -> impl FnOnce(&mut NodeSettings) {
    let file = folder.join("licensing.properties");
    move |settings| {
        settings.license = LicenseSettings { file, public_key: Some(key().public_key()), ..LicenseSettings::default() };
        settings.timeouts.grace = Duration::from_millis(300);
    }
}

async fn create(node: &TestNode, key: &str) -> Answer {
    let login = node.login("Host").await;
    node.post("/api/session/create").key(key).token(&login).send().await
}

/// Creates a session and gives its host and the host's room token.
async fn hosted<'a>(node: &'a TestNode, key: &str) -> (Peer<'a>, String) {
    let room_token = create(node, key).await.json()["roomToken"].as_str().unwrap().to_owned();
    (Peer::connect(node, key, &room_token).await, room_token)
}

/// Lets a guest ask to join, and the host agree; gives the guest's room token.
async fn admitted(node: &TestNode, key: &str, host: &mut Peer<'_>) -> String {
    let login = node.login("Guest").await;
    let joining = node.post(&format!("/api/session/join/{key}")).key(key).token(&login).send().await.json();
    let poll = format!("/api/session/poll/{}", joining["pollToken"].as_str().unwrap());
    node.post(&poll).key(key).token(&login).send().await;
    let (answer, _) = tokio::join!(node.post(&poll).key(key).token(&login).send(), host.answer_join(Some("w")));
    answer.json()["roomToken"].as_str().unwrap().to_owned()
}

async fn verdict_is(node: &TestNode, verdict: &str) {
    node.until(|| node.get("/ct-health/"), |answer| answer.json()["license"]["verdict"] == verdict).await;
}

#[tokio::test]
async fn a_session_begins_only_under_a_good_license() {
    let folder = TempDir::new().unwrap();
    let node = TestNode::start_with(licensed(folder.path())).await;
    verdict_is(&node, "evaluation").await;
    assert_eq!(node.get("/ct-health/").send().await.json()["seats"]["licensed"], 25);
    assert_eq!(create(&node, "a").await.status, 200);

    license(folder.path(), 7, "2020/12/31");
    verdict_is(&node, "expired").await;
    let refused = create(&node, "b").await;
    assert_eq!(refused.info(), info(403, "LicenseExpired"));
    let message = "The license of this server ended on 2020/12/31. Please ask its operator to renew it";
    assert_eq!(refused.json()["message"], message);

    let file = folder.path().join("licensing.properties");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("2020/12/31", "2999/12/31")).unwrap();
    verdict_is(&node, "forged").await;
    assert_eq!(create(&node, "c").await.info(), info(403, "LicenseInvalid"));
}

#[tokio::test]
async fn a_session_that_runs_goes_on_when_the_license_ends_and_a_new_license_needs_no_restart() {
    let folder = TempDir::new().unwrap();
    license(folder.path(), 7, "2999/12/31");
    let node = TestNode::start_with(licensed(folder.path())).await;
    verdict_is(&node, "valid").await;
    let (mut host, _) = hosted(&node, "room").await;

    license(folder.path(), 7, "2020/12/31");
    verdict_is(&node, "expired").await;
    let guest = admitted(&node, "room", &mut host).await;
    Peer::connect(&node, "room", &guest).await;
    assert_eq!(create(&node, "other").await.info(), info(403, "LicenseExpired"));

    license(folder.path(), 9, "2999/12/31");
    verdict_is(&node, "valid").await;
    assert_eq!(create(&node, "other").await.status, 200);
    let health = node.get("/ct-health/").send().await.json();
    assert_eq!(health["seats"], json!({"licensed": 9, "held": 9, "taken": 2}));
}

#[tokio::test]
async fn a_session_that_has_ended_is_brought_back_only_under_a_good_license() {
    let folder = TempDir::new().unwrap();
    license(folder.path(), 7, "2999/12/31");
    let node = TestNode::start_with(licensed(folder.path())).await;
    verdict_is(&node, "valid").await;
    let (host, token) = hosted(&node, "room").await;
    license(folder.path(), 7, "2020/12/31");
    verdict_is(&node, "expired").await;
    drop(host);
    // It still runs, so that its host may return.
    let host = Peer::connect(&node, "room", &token).await;
    host.send("41").await;
    node.until(|| node.get("/ct-health/"), |answer| answer.json()["sessions"] == 0).await;
    let (_, answer) = Peer::knock(&node, "room", &token).await;
    assert!(answer.starts_with("44{") && answer.contains("ended on 2020/12/31"), "{answer}");

    license(folder.path(), 7, "2999/12/31");
    verdict_is(&node, "valid").await;
    Peer::connect(&node, "room", &token).await;
}

#[tokio::test]
async fn who_finds_no_seat_is_told_how_many_there_are() {
    let folder = TempDir::new().unwrap();
    license(folder.path(), 2, "2999/12/31");
    let node = TestNode::start_with(licensed(folder.path())).await;
    let (mut host, host_token) = hosted(&node, "room").await;
    let early = admitted(&node, "room", &mut host).await;
    let late = admitted(&node, "room", &mut host).await;
    let guest = Peer::connect(&node, "room", &early).await;

    let message =
        "All 2 connections that this server is licensed for are in use. Please try again when somebody has left";
    let (_, answer) = Peer::knock(&node, "room", &late).await;
    assert!(answer.starts_with("44{") && answer.contains(message), "{answer}");
    let login = node.login("Another").await;
    let join = node.post("/api/session/join/room").token(&login).send().await;
    assert_eq!((join.info(), &join.json()["message"]), (info(503, "SeatsTaken"), &json!(message)));
    let created = create(&node, "other").await;
    assert_eq!((created.info(), &created.json()["message"]), (info(503, "SeatsTaken"), &json!(message)));

    // Whoever has a seat comes back to it.
    let mut host = Peer::connect(&node, "room", &host_token).await;
    guest.hang_up().await;
    let is_refused = |answer: &Answer| answer.status == 503;
    node.until(|| node.post("/api/session/join/room").token(&login), |answer| !is_refused(answer)).await;
    // That one waits for the host; the late guest takes the seat first.
    host.answer_join(None).await;
    Peer::connect(&node, "room", &late).await;
}

#[tokio::test]
async fn the_seat_of_somebody_who_left_is_free_when_the_store_knows() {
    let (folder, store) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    license(folder.path(), 2, "2999/12/31");
    let node = TestNode::sharing_with(store.path(), "a", licensed(folder.path())).await;
    let (mut host, _) = hosted(&node, "room").await;
    let early = admitted(&node, "room", &mut host).await;
    let late = admitted(&node, "room", &mut host).await;
    let guest = Peer::connect(&node, "room", &early).await;
    let mut hog =
        SqliteConnection::connect(&format!("sqlite:{}", store.path().join("ctedge.db").display())).await.unwrap();
    let is_written = async {
        while sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM peers").fetch_one(&mut hog).await.unwrap() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, is_written).await.unwrap();
    hog.execute("BEGIN EXCLUSIVE").await.unwrap();
    guest.hang_up().await;
    node.until(|| node.get("/ct-health/"), |answer| answer.json()["peers"] == 1).await;
    // Should the node die now, its guest would come back with the session.
    let (_, answer) = Peer::knock(&node, "room", &late).await;
    assert!(answer.starts_with("44{") && answer.contains("cannot let in more people"), "{answer}");
    hog.execute("ROLLBACK").await.unwrap();
    let letting_in = async { while !Peer::knock(&node, "room", &late).await.1.starts_with("40{") {} };
    tokio::time::timeout(DEADLINE, letting_in).await.unwrap();
}

#[tokio::test]
async fn a_seat_is_sold_once_over_all_nodes_and_moves_with_its_session() {
    let (folder, store) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    license(folder.path(), 3, "2999/12/31");
    let first = TestNode::sharing_with(store.path(), "a", licensed(folder.path())).await;
    let second = TestNode::sharing_with(store.path(), "b", licensed(folder.path())).await;
    let (_one, token) = hosted(&first, "one").await;
    let (_two, _) = hosted(&second, "two").await;
    let (three, _) = hosted(&second, "three").await;
    for node in [&first, &second] {
        let waits = |answer: &Answer| answer.body.contains("ctedge_node_waiting{what=\"seat\"} 1\n");
        let (created, _) = tokio::join!(create(node, "four"), node.until(|| node.get("/metrics"), waits));
        assert_eq!(created.info(), info(503, "SeatsTaken"));
    }

    // The one who was on the node that died is seated at the other; there is still no fourth seat.
    drop(first);
    let knock = || {
        let handshake = second.get("/socket.io/?EIO=4&transport=polling").key("one").token(&token);
        handshake.header("x-oct-public-key", "a public key")
    };
    second.until(knock, |answer| answer.status == 200).await;
    assert_eq!(second.get("/ct-health/").send().await.json()["seats"]["taken"], 3);
    assert_eq!(create(&second, "four").await.info(), info(503, "SeatsTaken"));

    three.hang_up().await;
    let login = second.login("Host").await;
    let again = || second.post("/api/session/create").key("four").token(&login);
    second.until(again, |answer| answer.status == 200).await;
}
