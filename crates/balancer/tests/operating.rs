//! What an operator sees and does: the admin API, reloads, metrics, the end.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use ctedge_settings::{BalancerSettings, PlacementAlgorithm};
use ctedge_wire::{DrainPlan, DrainTarget, HealthReport, NodeStatus};
use support::{Backend, Edge, Reply, until};
use tokio::sync::Notify;

#[tokio::test]
async fn the_status_shows_every_node() {
    let mut backends = [Backend::named(1).await, Backend::named(2).await];
    *backends[0].health.lock().unwrap() = Some(NodeStatus::Ready);
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    edge.get("/", &[("ctstickiness", "k")]).await;
    backends[1].kill().await;
    edge.wait_for_state("node-2", "down").await;
    let status = edge.admin("GET", "/status").await.json();
    assert_eq!(status["balancer"]["status"], "ready");
    assert_eq!(status["balancer"]["pins"], 1);
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!((&nodes[0]["id"], &nodes[0]["pid"], &nodes[0]["lag_ms"]), (&"node-1".into(), &1.into(), &0.0.into()));
    assert!(nodes[1]["pid"].is_null() && nodes[1]["trouble"].is_string(), "{}", nodes[1]);
    for key in
        ["address", "state", "sessions", "peers", "connections", "weight", "uptime_s", "version", "pins", "tunnels"]
    {
        assert!(nodes[0].get(key).is_some(), "{key} in {}", nodes[0]);
    }
}

#[tokio::test]
async fn explain_says_where_a_key_goes_and_why() {
    let backends = [Backend::named(1).await, Backend::named(2).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    let before = edge.admin("GET", "/explain?key=room").await.json();
    assert_eq!(before["reason"], "placed");
    assert!(before["pin"].is_null());
    assert_eq!(before["ranked"].as_array().unwrap().len(), 2);
    let home = edge.get("/", &[("ctstickiness", "room")]).await;
    assert_eq!(before["node"], home.node());
    let after = edge.admin("GET", "/explain?key=room").await.json();
    assert_eq!((&after["node"], &after["pin"]["node"]), (&before["node"], &before["node"]));
    assert_eq!(edge.admin("GET", "/explain").await.status, 400);
    assert_eq!(edge.admin("GET", "/explain?key=no%20key").await.status, 400);
}

/// A node of ours as far as orders go.
async fn obedient(number: usize) -> Backend {
    let control = support::secret().control_token();
    let backend = Backend::new(number, move |request| {
        let Some(order) = request.path.strip_prefix("/ct-control/") else { return Reply::text("x") };
        if request.header("x-ctedge-control") != Some(control.as_str()) {
            return Reply::status(403, &[]);
        }
        if order == "plan" {
            let targets = vec![DrainTarget { node: "node-2".into(), sessions: 2, peers: 5 }];
            return Reply::text(
                serde_json::to_string(&DrainPlan { sessions: 2, peers: 5, targets, ..DrainPlan::default() }).unwrap(),
            );
        }
        if order == "drain?deadline_s=18446744073709551615" {
            let told = r#"{"code":"BadRequest","params":[],"message":"deadline_s is too long"}"#;
            return Reply::Answer(400, Vec::new(), told.as_bytes().to_vec());
        }
        let status = match order {
            "drain?now=true&exit=true" | "drain" => NodeStatus::Draining,
            "suspend" => NodeStatus::Suspended,
            _ => NodeStatus::Ready,
        };
        Reply::text(report(status))
    })
    .await;
    *backend.health.lock().unwrap() = Some(NodeStatus::Ready);
    backend
}

fn report(status: NodeStatus) -> String {
    let report = HealthReport {
        status,
        node: "node".into(),
        pid: 1,
        version: "0".into(),
        uptime_s: 0,
        ..HealthReport::default()
    };
    serde_json::to_string(&report).unwrap()
}

#[tokio::test]
async fn orders_reach_the_node_and_count_at_once() {
    let backend = obedient(1).await;
    let mut settings = support::settings(&[&backend]);
    // No check comes in between.
    settings.health.interval = Duration::from_secs(600);
    let edge = Edge::start(settings).await;
    let plan = edge.admin("GET", "/plan/drain/node-1").await.json();
    assert_eq!((&plan["sessions"], &plan["targets"][0]["peers"]), (&2.into(), &5.into()));
    assert_eq!(edge.admin("GET", "/plan/drain/node-9").await.status, 404);
    let wrong = edge.admin("POST", "/nodes/node-1/drain?deadline_s=18446744073709551615").await;
    assert_eq!((wrong.status, &wrong.json()["error"]), (400, &"deadline_s is too long".into()));
    assert_eq!(edge.state_of("node-1").await, "ready");
    let orders = [("drain?now=true&exit=true", "draining"), ("suspend", "suspended"), ("resume", "ready")];
    for (order, state) in orders {
        let answer = edge.admin("POST", &format!("/nodes/node-1/{order}")).await.json();
        assert_eq!((answer["ok"].as_bool(), answer["told"].as_bool()), (Some(true), Some(true)));
        assert_eq!(answer["node"]["state"], state);
        assert_eq!(edge.state_of("node-1").await, state);
    }
}

#[tokio::test]
async fn a_server_that_knows_no_orders_is_kept_from_new_keys_here() {
    let backends = [
        Backend::new(1, |request| {
            if request.path.starts_with("/ct-control") { Reply::status(404, &[]) } else { Reply::text("x") }
        })
        .await,
        Backend::named(2).await,
    ];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    let answer = edge.admin("POST", "/nodes/node-1/suspend").await.json();
    assert_eq!(answer["told"], false);
    // The next checks do not undo the word.
    let checks = backends[0].connections();
    until("it was checked twice more", async || backends[0].connections() >= checks + 2).await;
    assert_eq!(edge.state_of("node-1").await, "suspended");
    for _ in 0..10 {
        assert_eq!(edge.get("/", &[]).await.node(), "node-2");
    }
    edge.admin("POST", "/nodes/node-1/resume").await;
    assert_eq!(edge.state_of("node-1").await, "ready");
}

#[tokio::test]
async fn wrong_requests_are_answered_with_a_reason() {
    let backend = Backend::named(1).await;
    let edge = Edge::with(&[&backend]).await;
    let unknown = edge.admin("POST", "/nodes/node-9/drain").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"].as_str().unwrap().contains("node-1"), "it names the known ones");
    for (method, path, status) in
        [("POST", "/nodes/node-1/dance", 404), ("GET", "/nowhere", 404), ("GET", "/reload", 405)]
    {
        let answer = edge.admin(method, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["error"].is_string());
    }
}

#[tokio::test]
async fn the_admin_token_is_asked_for_and_web_pages_are_not_let_in() {
    let backend = Backend::named(1).await;
    let edge = Edge::with(&[&backend]).await;
    for header in [("Origin", "https://evil.test"), ("Sec-Fetch-Site", "cross-site")] {
        assert_eq!(edge.admin_with("POST", "/reload", &[("Host", "localhost"), header]).await.status, 403);
    }
    assert_eq!(edge.admin_with("POST", "/reload", &[("Host", "rebound.evil.test")]).await.status, 403);

    let mut settings = support::settings(&[&backend]);
    settings.admin_token = Some("the-admin-token".into());
    let edge = Edge::start(settings).await;
    let status =
        async |authorization| edge.admin_with("GET", "/status", &[("Authorization", authorization)]).await.status;
    assert_eq!(status("Bearer the-admin-token").await, 200);
    assert_eq!(status("Bearer another-token").await, 401);
    assert_eq!(edge.admin("GET", "/metrics").await.status, 401);
    assert_eq!(edge.admin("GET", "/ct-health/").await.status, 200);
}

#[tokio::test]
async fn a_wrong_reload_changes_nothing_and_says_why() {
    let backend = Backend::named(1).await;
    let edge = Edge::with(&[&backend]).await;
    *edge.source.0.lock().unwrap() = Err("line 3: unknown key `nodse`".into());
    let refused = edge.admin("POST", "/reload").await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("line 3: unknown key `nodse`")));
    assert_eq!(edge.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn a_right_reload_keeps_connections_tunnels_and_keys() {
    let echo = |number: usize| {
        Backend::new(number, |request| {
            if request.header("upgrade").is_some() { Reply::Echo(Vec::new()) } else { Reply::text("x") }
        })
    };
    let backends = [echo(1).await, echo(2).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    let mut client = edge.client().await;
    let home = client.request("GET", "/", &[("ctstickiness", "k")], b"").await.node().to_owned();
    let mut tunnel = edge.client().await;
    assert_eq!(tunnel.upgrade("/ws", &[("ctstickiness", "k")], b"").await.node(), home);

    // The node of the key leaves the list, and the hash is another one.
    let staying = backends.iter().find(|backend| backend.id != home).unwrap();
    let mut settings = support::settings(&[staying]);
    settings.placement.algorithm = PlacementAlgorithm::Ketama;
    settings.http = None;
    settings.path_prefix = "/elsewhere".into();
    settings.region = Some("eu".into());
    *edge.source.0.lock().unwrap() = Ok(settings);
    let answer = edge.admin("POST", "/reload").await.json();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["nodes_removed"], serde_json::json!([home]));
    assert_eq!(answer["needs_restart"], serde_json::json!(["http", "server_url", "region"]));

    tunnel.send(b"still here").await;
    assert_eq!(tunnel.exactly(10).await, b"still here");
    assert_eq!(client.request("GET", "/", &[("ctstickiness", "k")], b"").await.node(), home);
    for _ in 0..10 {
        assert_eq!(client.request("GET", "/", &[], b"").await.node(), staying.id);
    }
}

#[tokio::test]
async fn the_metrics_tell_what_happened() {
    let mut backends = [Backend::named(1).await, Backend::named(2).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    edge.get("/", &[]).await;
    edge.get("/", &[("ctstickiness", "k")]).await;
    edge.get("/", &[("ctstickiness", "not a key")]).await;
    for backend in &mut backends {
        backend.kill().await;
    }
    assert_eq!(edge.get("/", &[("ctstickiness", "k")]).await.status, 503);
    // An answer is counted after it is sent.
    let scrape = async || edge.admin("GET", "/metrics").await.text().to_owned();
    let counted = "ctedge_balancer_requests_total{node=\"-\",status=\"5xx\"} 1";
    until("the answer is counted", async || scrape().await.contains(counted)).await;
    let text = scrape().await;
    for line in [
        "ctedge_balancer_keys_total{source=\"minted\"} 2",
        "ctedge_balancer_keys_total{source=\"header\"} 2",
        "ctedge_balancer_malformed_keys_total 1",
        "ctedge_balancer_node_state{node=\"node-1\",state=\"down\"} 1",
        "ctedge_balancer_nodes_up 0",
        "ctedge_balancer_pins{reason=\"placed\"}",
        "ctedge_balancer_retries_total{reason=\"connect\"}",
        "ctedge_balancer_node_state_changes_total{node=\"node-2\",state=\"down\"} 1",
        "ctedge_balancer_request_seconds_bucket",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn a_node_that_is_gone_is_in_the_metrics_once_more() {
    let mut backends = [Backend::named(1).await, Backend::named(2).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    let scrape = async || edge.admin("GET", "/metrics").await.text().to_owned();
    let counts =
        ["ctedge_balancer_requests_total{node=\"node-2\"", "ctedge_balancer_node_state_changes_total{node=\"node-2\""];
    for number in 0..10 {
        edge.get("/", &[("ctstickiness", &format!("k{number}"))]).await;
    }
    backends[1].kill().await;
    edge.wait_for_state("node-2", "down").await;
    until("all of it is counted", async || {
        let text = scrape().await;
        counts.iter().all(|line| text.contains(line))
    })
    .await;
    *edge.source.0.lock().unwrap() = Ok(support::settings(&[&backends[0]]));
    assert_eq!(edge.admin("POST", "/reload").await.json()["ok"], true);
    let text = scrape().await;
    assert!(counts.iter().all(|line| text.contains(line)), "{text}");
    let text = scrape().await;
    assert!(!text.contains("node-2") && text.contains("requests_total{node=\"node-1\""), "{text}");
}

#[tokio::test]
async fn a_balancer_that_stops_finishes_what_it_began() {
    let backend = Backend::new(1, |request| {
        // The test's own runtime goes on: a backend that is slow for a moment.
        std::thread::sleep(Duration::from_millis(if request.path == "/slow" { 300 } else { 0 }));
        Reply::text("done")
    })
    .await;
    let mut edge = Edge::with(&[&backend]).await;
    let (mut slow, mut idle, http) = (edge.client().await, edge.client().await, edge.http());
    idle.request("GET", "/", &[], b"").await;
    slow.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    until("the request is there", async || backend.seen().iter().any(|request| request.path == "/slow")).await;
    edge.stop();
    let answer = slow.answer().await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "done"));
    assert!(idle.rest().await.is_empty(), "who waits is let go");
    edge.ended().await;
    assert!(tokio::net::TcpStream::connect(http).await.is_err());
}

/// A backend that lets requests of `/held` and of `t=held` wait until it is told.
async fn holding() -> (Backend, Arc<Notify>) {
    let told = Arc::new(Notify::new());
    let held = Arc::clone(&told);
    let backend = Backend::new(1, move |request| match request.method == "GET" && request.path.ends_with("held") {
        true => Reply::Later(Arc::clone(&held)),
        false => Reply::text("node-1"),
    });
    (backend.await, told)
}

/// Settings of a balancer that waits for whoever is there.
fn patient(backend: &Backend) -> BalancerSettings {
    let mut settings = support::settings(&[backend]);
    let hour = Duration::from_secs(3600);
    (settings.timeouts.stop, settings.timeouts.response) = (hour, hour);
    settings
}

#[tokio::test]
async fn a_balancer_that_stops_serves_whoever_polls_until_they_have_left_and_lets_nobody_in() {
    let (backend, told) = holding().await;
    let mut edge = Edge::start(patient(&backend)).await;
    let polling = "/socket.io/?EIO=4&transport=polling";
    let goes_on = format!("{polling}&sid=k.r");
    let mut waiting = edge.client().await;
    waiting.send(format!("GET {goes_on}&t=held HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    until("the request waits at the node", async || !backend.seen().is_empty()).await;
    edge.stop();
    let refused = async || edge.get(polling, &[]).await;
    until("nobody is let in", async || refused().await.status == 503).await;
    let refused = refused().await;
    assert_eq!((refused.json()["code"].as_str(), refused.header("retry-after").is_some()), (Some("Stopping"), true));
    let upgrade = edge.client().await.upgrade(&goes_on.replace("polling", "websocket"), &[], b"").await;
    assert_eq!(upgrade.status, 503);
    assert_eq!(edge.get(&goes_on, &[]).await.status, 200);
    assert_eq!(edge.get("/api/meta", &[]).await.status, 200);
    let leave = format!("/ct-control/leave{}&t=held", &goes_on["/socket.io/".len()..]);
    until("the node hears of who waits", async || backend.seen().iter().any(|request| request.path == leave)).await;
    let seen = backend.seen();
    let header = |path: &str, name: &str| {
        let last = seen.iter().rfind(|request| request.path.starts_with(path)).unwrap();
        last.header(name).map(str::to_owned)
    };
    assert_eq!(header(&leave, "x-ctedge-control"), Some(support::secret().control_token()));
    for path in ["/socket.io/", "/api/meta"] {
        assert_eq!(header(path, "x-ctedge-leaving").as_deref(), Some("1"));
    }
    assert_eq!(seen[0].header("x-ctedge-leaving"), None);
    told.notify_one();
    assert_eq!(waiting.answer().await.unwrap().text(), "later");
    assert_eq!(edge.post(&goes_on, &[], b"last words").await.status, 200);
    edge.ended().await;
}

#[tokio::test]
async fn a_replaced_balancer_leaves_newcomers_to_its_successor_when_its_time_is_over() {
    let (backend, told) = holding().await;
    let mut settings = patient(&backend);
    settings.timeouts.retire = Duration::ZERO;
    let edge = Edge::start(settings).await;
    let (mut waiting, mut idle) = (edge.client().await, edge.client().await);
    waiting.send(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.request("GET", "/", &[], b"").await;
    until("the request waits at the node", async || backend.seen().len() == 2).await;
    edge.handle.retire();
    until("nobody is accepted", async || tokio::net::TcpStream::connect(edge.http()).await.is_err()).await;
    let begins = idle.request("GET", "/socket.io/?EIO=4&transport=polling", &[], b"").await;
    assert_eq!((begins.status, begins.header("connection")), (200, Some("close")));
    told.notify_one();
    assert_eq!(waiting.answer().await.unwrap().text(), "later");
    edge.ended().await;
}

#[tokio::test]
async fn an_access_line_is_written_for_every_answer() {
    let backend = Backend::named(1).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mut settings = support::settings(&[&backend]);
    settings.log.access = Some(path.clone());
    let edge = Edge::start(settings).await;
    edge.get("/clients/vscode/x?x-oct-jwt=a.secret.token", &[("User-Agent", "tests/1"), ("Referer", "r")]).await;
    edge.post("/ct-control/x", &[], b"").await;
    until("the lines are there", async || std::fs::read_to_string(&path).unwrap().lines().count() == 2).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"GET /clients/vscode/x?") && text.contains("\" 200 6 \"r\" \"tests/1\""), "{text}");
    assert!(text.contains("\"POST /ct-control/x HTTP/1.1\" 404 "), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
