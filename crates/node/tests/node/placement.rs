//! Which requests a node takes under the key that they were placed by, and which it sends on with 421.

use crate::support::peer::Peer;
use crate::support::{TestNode, info};
use serde_json::json;

const KNOWN_NOWHERE: &str = "elsewhere.000000000000000000000000";

#[tokio::test]
async fn everything_issued_is_built_on_the_key_of_the_request() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    let begun = node.post("/api/login/initial").key("a-key").send().await.json();
    assert!(begun["pollToken"].as_str().unwrap().starts_with("a-key."));
    let created = node.post("/api/session/create").key("b.key").token(&login).send().await.json();
    assert_eq!(created["roomId"], "b.key");
    let opened = node.get("/socket.io/?EIO=4&transport=polling").key("c-key").send().await;
    assert!(opened.body.contains(r#""sid":"c-key."#), "{opened:?}");
}

#[tokio::test]
async fn without_a_balancer_the_node_mints_keys_itself() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    let rooms: Vec<_> = [(); 2].map(|()| node.post("/api/session/create").token(&login)).into_iter().collect();
    let mut ids = Vec::new();
    for room in rooms {
        ids.push(room.send().await.json()["roomId"].as_str().unwrap().to_owned());
    }
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() == 24), "{ids:?}");
}

#[tokio::test]
async fn a_session_under_a_key_in_use_is_sent_on_under_a_fresh_key() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    let create = || node.post("/api/session/create").key("taken").token(&login).send();
    assert_eq!(create().await.status, 200);
    let again = create().await;
    let (status, fresh) = again.redirect();
    assert_eq!(status, 421);
    let fresh = fresh.unwrap();
    assert!(fresh != "taken" && fresh.len() == 24, "{fresh}");
    assert_eq!(node.get("/ct-health/").send().await.json()["sessions"], 1, "a 421 has done nothing");
    assert_eq!(node.post("/api/session/create").key(fresh).token(&login).send().await.json()["roomId"], fresh);
}

#[tokio::test]
async fn a_form_whose_login_waits_elsewhere_is_sent_on() {
    let node = TestNode::start().await;
    let json = json!({"token": KNOWN_NOWHERE, "user": "Ada"});
    let form = format!("token={KNOWN_NOWHERE}&user=Ada");
    let post = || node.post("/api/login/simple");
    assert_eq!(post().key("here").json(&json).send().await.redirect(), (421, Some("elsewhere")));
    assert_eq!(post().key("here").form(&form).send().await.redirect(), (421, Some("elsewhere")));
    assert_eq!(post().key("elsewhere").json(&json).send().await.info(), info(400, "AuthTimeout"));
    assert_eq!(post().json(&json).send().await.info(), info(400, "AuthTimeout"), "there is no balancer to send it on");
    // A login that is known here is confirmed here, whatever the key of the request.
    let token = node.poll_token().await;
    assert_eq!(post().key("here").json(&json!({"token": token, "user": "Ada"})).send().await.status, 200);
}

#[tokio::test]
async fn polls_and_joins_of_another_key_are_sent_on() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    for path in [
        format!("/api/login/poll/{KNOWN_NOWHERE}"),
        format!("/api/session/poll/{KNOWN_NOWHERE}"),
        "/api/session/join/elsewhere".to_owned(),
    ] {
        let answer = node.post(&path).key("here").token(&login).send().await;
        assert_eq!(answer.redirect(), (421, Some("elsewhere")), "{path}");
        assert!(node.post(&path).key("elsewhere").token(&login).send().await.status < 405, "{path}");
    }
}

#[tokio::test]
async fn a_transport_of_another_key_is_sent_on_unless_its_session_is_here() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    let created = node.post("/api/session/create").key("room").token(&login).send().await.json();
    let room_token = created["roomToken"].as_str().unwrap();
    let other = TestNode::start().await;
    let open = other.get("/socket.io/?EIO=4&transport=polling").key("here").token(room_token);
    assert_eq!(open.header("x-oct-public-key", "k").send().await.redirect(), (421, Some("room")));
    Peer::connect(&node, "here", room_token).await;
}
