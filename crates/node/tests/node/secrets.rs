//! No token reaches the log, whatever its level.

use crate::support::TestNode;
use crate::support::log::Log;
use crate::support::peer::Peer;

#[tokio::test]
async fn no_token_reaches_the_log_and_the_audit_tells_the_session() {
    let log = Log::of_process();
    let mut node = TestNode::start().await;
    let poll_token = node.poll_token().await;
    node.get(&format!("/login.html?token={poll_token}")).send().await;
    let login = node.confirm(&poll_token, "Ada\u{2028}L").await;
    let created = node.post("/api/session/create").key("room").token(&login).send().await.json();
    let room_token = created["roomToken"].as_str().unwrap().to_owned();
    let mut host = Peer::connect(&node, "room", &room_token).await;
    let join = node.post("/api/session/join/room").token(&login).send().await.json();
    let join_token = join["pollToken"].as_str().unwrap().to_owned();
    host.answer_join(Some("w")).await;
    let poll = format!("/api/session/poll/{join_token}");
    let joined = node.until(|| node.post(&poll).token(&login), |answer| answer.json()["roomToken"].is_string()).await;
    let guest_token = joined.json()["roomToken"].as_str().unwrap().to_owned();
    Peer::connect(&node, "room", &guest_token).await;
    let mut forged = room_token.clone();
    forged.push('A');
    node.get(&format!("/socket.io/?EIO=4&transport=polling&x-oct-public-key=k&x-oct-jwt={forged}")).send().await;
    drop(host);
    let control = node.secret.control_token();
    node.post("/ct-control/drain").header("x-ctedge-control", &control).send().await;
    node.post("/ct-control/resume").header("x-ctedge-control", &format!("{control}x")).send().await;
    node.stop();
    node.stopped().await;

    let text = log.text();
    for (what, token) in [
        ("poll token", &poll_token),
        ("login token", &login),
        ("room token of the host", &room_token),
        ("room token of the guest", &guest_token),
        ("poll token of the join", &join_token),
        ("forged token", &forged),
        ("control token", &control),
    ] {
        // The signature or the random part is what admits its bearer.
        let secret_part = token.rsplit('.').next().unwrap();
        assert!(!text.contains(secret_part), "the {what} is in the log:\n{text}");
    }
    for event in ["created", "joined", "ended"] {
        assert!(text.contains(&format!("event=\"{event}\"")), "{event} is missing in the audit:\n{text}");
    }
    assert!(text.contains(r#"user="Ada\u{2028}L""#), "a name stays on its line:\n{text}");
}
