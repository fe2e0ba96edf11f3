//! What the balancer and operators ask of a node, what it refuses for want of room, and how it stops.

use std::time::{Duration, Instant};

use crate::support::peer::Peer;
use crate::support::{TestNode, info};
use ctedge_settings::NodeSettings;
use serde_json::json;

#[tokio::test]
async fn health_tells_what_the_node_is_and_has() {
    let node = TestNode::start().await;
    let answer = node.get("/ct-health/").send().await;
    let report: ctedge_wire::HealthReport = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &*report.node, report.pid), (200, "node-1", std::process::id()));
    assert_eq!((report.sessions, report.peers, report.connections), (0, 0, 0));
    assert_eq!(report.status, ctedge_wire::NodeStatus::Ready);
}

#[tokio::test]
async fn only_the_control_token_controls() {
    let node = TestNode::start().await;
    let token = node.secret.control_token();
    let drain = || node.post("/ct-control/drain");
    let mut wrong = token.clone();
    wrong.replace_range(63.., if token.ends_with('0') { "1" } else { "0" });
    assert_eq!(drain().send().await.info(), info(403, "Forbidden"));
    assert_eq!(drain().header("x-ctedge-control", &wrong).send().await.info(), info(403, "Forbidden"));
    assert_eq!(node.get("/ct-health/").send().await.json()["status"], "ready");
    for (action, status) in [("drain", "draining"), ("suspend", "suspended"), ("resume", "ready")] {
        let answer = node.post(&format!("/ct-control/{action}")).header("x-ctedge-control", &token).send().await;
        assert_eq!(answer.json()["status"], status);
        assert_eq!(node.get("/ct-health/").send().await.json()["status"], status);
    }
    assert_eq!(node.post("/ct-control/explode").header("x-ctedge-control", &token).send().await.status, 404);
}

#[tokio::test]
async fn a_node_that_takes_no_new_sessions_serves_its_own() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    let create = || node.post("/api/session/create").key("room").token(&login).send();
    let room_token = create().await.json()["roomToken"].as_str().unwrap().to_owned();
    let token = node.secret.control_token();
    for action in ["drain", "suspend"] {
        node.post(&format!("/ct-control/{action}")).header("x-ctedge-control", &token).send().await;
        let refused = create().await;
        assert_eq!((refused.info(), refused.header("retry-after")), (info(503, "ServerDraining"), Some("5")));
        Peer::connect(&node, "room", &room_token).await;
        assert_eq!(node.post("/api/session/join/room").token(&login).send().await.status, 200);
    }
}

#[tokio::test]
async fn a_suspended_node_is_suspended_at_its_next_start_too() {
    let folder = tempfile::tempdir().unwrap();
    let begin = async |is_sharing: bool| {
        let file = Some(folder.path().join("suspended/node-1"));
        let remember = |settings: &mut NodeSettings| settings.suspension = file;
        match is_sharing {
            true => TestNode::sharing_with(folder.path(), "node-1", remember).await,
            false => TestNode::start_with(remember).await,
        }
    };
    for is_sharing in [false, true] {
        for (order, status) in [
            ("suspend", "suspended"),
            // What is restarted comes back as it was.
            ("drain?restart=true", "suspended"),
            ("resume", "ready"),
            ("suspend", "suspended"),
            ("resume", "ready"),
            ("drain", "suspended"),
        ] {
            let node = begin(is_sharing).await;
            assert_eq!(node.order(order).await.status, 200);
            drop(node);
            let node = begin(is_sharing).await;
            assert_eq!(node.get("/ct-health/").send().await.json()["status"], status, "after {order}");
        }
    }
}

#[tokio::test]
async fn metrics_count_requests_refusals_and_what_the_node_has() {
    let node = TestNode::start().await;
    let login = node.login("Ada").await;
    let created = node.post("/api/session/create").key("room").token(&login).send().await.json();
    Peer::connect(&node, "room", created["roomToken"].as_str().unwrap()).await;
    node.get("/what/is/here?token=secret").send().await;
    let text = node.get("/metrics").send().await.body;
    for line in [
        "ctedge_node_sessions 1",
        "ctedge_node_peers 1",
        "ctedge_node_connections 1",
        "ctedge_node_sessions_created_total 1",
        "ctedge_node_messages_delivered_total 1",
        r#"ctedge_node_pending{what="login"} 1"#,
        r#"ctedge_node_refusals_total{reason="bad_request"} 1"#,
        r#"ctedge_node_http_requests_total{route="/api/session/create",status="200"} 1"#,
        r#"ctedge_node_http_requests_total{route="other",status="404"} 1"#,
        r#"ctedge_node_status{status="ready"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("secret"));
    for (name, value) in [("x-forwarded-for", "192.0.2.1"), ("via", "1.1 proxy"), ("host", "edge.example.com")] {
        let public = node.get("/metrics").header(name, value).send().await;
        assert_eq!(public.info(), info(404, "BadRequest"), "the public address does not show them: {name}");
    }
}

#[tokio::test]
async fn a_metrics_token_is_what_shows_the_figures_of_the_node_and_nothing_else_does() {
    let token = "a-token-of-metrics";
    let node = TestNode::start_with(|settings| settings.metrics.token = Some(token.into())).await;
    let ask = |given: &str| node.get("/metrics").header("authorization", given).send();
    assert_eq!(node.get("/metrics").send().await.status, 404);
    assert_eq!(ask("Bearer a-token-of-others").await.status, 404);
    assert!(ask(&format!("Bearer {token}")).await.body.contains("\nctedge_node_sessions 0\n"));
}

#[tokio::test]
async fn logins_and_join_requests_that_wait_are_bounded() {
    let node = TestNode::start_with(|settings| settings.limits.pending_max = 2).await;
    let login = node.login("Ada").await;
    node.poll_token().await;
    let refused = node.post("/api/login/initial").send().await;
    assert_eq!((refused.info(), refused.header("retry-after")), (info(503, "ServerFull"), Some("5")));

    let created = node.post("/api/session/create").key("room").token(&login).send().await.json();
    let _host = Peer::connect(&node, "room", created["roomToken"].as_str().unwrap()).await;
    let join = || node.post("/api/session/join/room").token(&login).send();
    assert_eq!((join().await.status, join().await.status), (200, 200));
    assert_eq!(join().await.info(), info(503, "ServerFull"));
}

#[tokio::test]
async fn a_session_has_no_more_join_requests_than_peers_could_come() {
    let node = TestNode::start_with(|settings| settings.limits.peers_per_session_max = 2).await;
    let login = node.login("Ada").await;
    let created = node.post("/api/session/create").key("room").token(&login).send().await.json();
    let _host = Peer::connect(&node, "room", created["roomToken"].as_str().unwrap()).await;
    let join = || node.post("/api/session/join/room").token(&login).send();
    assert_eq!(join().await.status, 200);
    assert_eq!(join().await.info(), info(503, "SessionFull"));
}

#[tokio::test]
async fn transports_are_bounded() {
    let node = TestNode::start_with(|settings| settings.limits.connections_max = 1).await;
    let open = || node.get("/socket.io/?EIO=4&transport=polling").send();
    assert_eq!(open().await.status, 200);
    assert_eq!(open().await.status, 503);
    assert_eq!(node.get("/ct-health/").send().await.json()["connections"], 1, "health is answered all the same");
}

#[tokio::test]
async fn a_stop_answers_long_polls_and_ends_idle_connections_at_once() {
    let mut node = TestNode::start().await;
    let token = node.poll_token().await;
    let mut idle = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let address = node.address;
    let polling = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("POST /api/login/poll/{token} HTTP/1.1\r\nhost: n\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    // The poll has arrived when the node counts its connection besides the idle one and the asking one.
    let connections = |answer: &crate::support::Answer| answer.body.contains("ctedge_node_http_connections 3");
    node.until(|| node.get("/metrics"), connections).await;
    node.stop();
    let begun = Instant::now();
    node.stopped().await;
    let answer = polling.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "neither the poll's time nor the stop's was waited for");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut idle, &mut rest);
    assert_eq!(tokio::time::timeout(crate::support::DEADLINE, read).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_stop_takes_no_longer_than_it_may_although_a_peer_does_not_read() {
    let mut node = TestNode::start_with(|settings| settings.timeouts.stop = Duration::from_secs(2)).await;
    let login = node.login("Ada").await;
    let created = node.post("/api/session/create").key("room").token(&login).send().await.json();
    let _host = Peer::connect(&node, "room", created["roomToken"].as_str().unwrap()).await;
    node.stop();
    let begun = Instant::now();
    let lost = "ctedge_node_sessions_lost_total{reason=\"no_store\"} 1\n";
    node.until(|| node.get("/metrics"), |answer| answer.body.contains(lost)).await;
    node.stopped().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_not_served_is_said_so() {
    let node = TestNode::start().await;
    assert_eq!(node.get("/nowhere").send().await.info(), info(404, "BadRequest"));
    assert_eq!(node.get("/api/login/initial").send().await.info(), info(405, "BadRequest"));
    let page = node.get("/nowhere").header("accept", "text/html,*/*").send().await;
    assert_eq!((page.status, page.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert_eq!(node.get("/api/meta").send().await.json()["owner"], json!("The <Testers>"));
}

#[tokio::test]
async fn a_node_without_a_store_ends_when_its_last_session_has_or_at_the_deadline() {
    let mut idle = TestNode::start().await;
    idle.order("drain?deadline_s=none&exit=true").await;
    idle.stopped().await;

    let mut node = TestNode::start().await;
    let login = node.login("Ada").await;
    let created = node.post("/api/session/create").key("room").token(&login).send().await.json();
    let _host = Peer::connect(&node, "room", created["roomToken"].as_str().unwrap()).await;
    let plan =
        node.get("/ct-control/plan").header("x-ctedge-control", &node.secret.control_token()).send().await.json();
    assert_eq!((&plan["sessions"], &plan["peers"], &plan["ends_sessions"]), (&json!(1), &json!(1), &json!(true)));
    let drained = node.order("drain?deadline_s=600&exit=true").await.json();
    assert_eq!((&drained["drain"]["phase"], &drained["drain"]["sessions"]), (&json!("waiting"), &json!(1)));
    assert_eq!(node.order("resume").await.json().get("drain"), None);
    node.order("drain?now=true&exit=true").await;
    node.stopped().await;
}
