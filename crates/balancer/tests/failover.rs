//! What becomes of requests when nodes die, are silent, or take nothing new.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ctedge_wire::{LeaseOver, NodeStatus};
use support::{Backend, Edge, Reply, until};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A key that lives on the first of two backends.
async fn key_on(edge: &Edge, id: &str) -> String {
    for number in 0..200 {
        let key = format!("k{number}");
        if edge.get("/", &[("ctstickiness", &key)]).await.node() == id {
            return key;
        }
    }
    panic!("no key leads to {id}");
}

#[tokio::test]
async fn a_killed_node_fails_no_request_and_its_keys_go_on_elsewhere() {
    let mut backends = [Backend::named(1).await, Backend::named(2).await, Backend::named(3).await];
    let edge = Edge::with(&backends.iter().collect::<Vec<_>>()).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut busy = tokio::task::JoinSet::new();
    for number in 0..16 {
        let (mut client, stopped) = (edge.client().await, stopped.clone());
        busy.spawn(async move {
            let key = format!("busy-{number}");
            let mut served = 0_u32;
            while !*stopped.borrow() {
                let answer = client.request("GET", "/", &[("ctstickiness", &key)], b"").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                served += 1;
            }
            served
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    backends[1].kill().await;
    edge.wait_for_state("node-2", "down").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send(true).unwrap();
    while let Some(served) = busy.join_next().await {
        assert!(served.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_key_stays_where_it_went_when_its_node_comes_back() {
    let mut backends = [Backend::named(1).await, Backend::named(2).await];
    let edge = Edge::with(&backends.iter().collect::<Vec<_>>()).await;
    let key = key_on(&edge, "node-1").await;
    backends[0].kill().await;
    assert_eq!(edge.get("/", &[("ctstickiness", &key)]).await.node(), "node-2");
    backends[0].revive().await;
    edge.wait_for_state("node-1", "ready").await;
    assert_eq!(edge.get("/", &[("ctstickiness", &key)]).await.node(), "node-2");
    let explained = edge.admin("GET", &format!("/explain?key={key}")).await.json();
    assert_eq!((explained["node"].as_str(), explained["reason"].as_str()), (Some("node-2"), Some("failover")));
}

#[tokio::test]
async fn a_post_whose_connect_failed_goes_on_with_its_body() {
    let mut backends = [Backend::named(1).await, Backend::named(2).await];
    let edge = Edge::with(&backends.iter().collect::<Vec<_>>()).await;
    let key = key_on(&edge, "node-1").await;
    backends[0].kill().await;
    let answer = edge.post("/", &[("ctstickiness", &key)], b"what was said").await;
    assert_eq!((answer.status, answer.node()), (200, "node-2"));
    assert_eq!(backends[1].seen().pop().unwrap().body, b"what was said");
}

/// Listens, and yet takes no connection: those of the returned clients fill its queue.
async fn full_listener(address: std::net::SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut clients = Vec::new();
    while let Ok(client) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        clients.push(client.unwrap());
    }
    (listener, clients)
}

/// Two backends, a key that lives on the first, and nothing but refused connects that could take a node down.
async fn edge_without_an_opinion() -> ([Backend; 2], Edge, String) {
    let backends = [Backend::named(1).await, Backend::named(2).await];
    let mut settings = support::settings(&backends.iter().collect::<Vec<_>>());
    settings.health.interval = Duration::from_secs(60);
    settings.health.fall = 100;
    settings.timeouts.connect = Duration::from_millis(100);
    let edge = Edge::start(settings).await;
    let key = key_on(&edge, "node-1").await;
    (backends, edge, key)
}

#[tokio::test]
async fn a_live_key_whose_node_takes_no_connection_waits_until_the_node_is_gone_and_goes_on_elsewhere() {
    let (mut backends, edge, key) = edge_without_an_opinion().await;
    backends[0].kill().await;
    let full = full_listener(backends[0].address).await;
    let ends = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(full);
    };
    let headers = [("ctstickiness", key.as_str())];
    let (answer, ()) = tokio::join!(edge.post("/", &headers, b"what was said"), ends);
    assert_eq!((answer.status, answer.node()), (200, "node-2"), "{answer:?}");
    assert_eq!(backends[1].seen().pop().unwrap().body, b"what was said");
}

#[tokio::test]
async fn a_live_key_whose_node_takes_no_connection_for_a_moment_stays_there() {
    let (mut backends, edge, key) = edge_without_an_opinion().await;
    backends[0].kill().await;
    let full = full_listener(backends[0].address).await;
    let recovers = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        drop(full);
        backends[0].revive().await;
    };
    let headers = [("ctstickiness", key.as_str())];
    let (answer, ()) = tokio::join!(edge.post("/", &headers, b"what was said"), recovers);
    assert_eq!((answer.status, answer.node()), (200, "node-1"), "{answer:?}");
}

#[tokio::test]
async fn a_live_key_whose_node_takes_no_connection_for_long_is_refused_and_does_not_move() {
    let (mut backends, edge, key) = edge_without_an_opinion().await;
    backends[0].kill().await;
    let _full = full_listener(backends[0].address).await;
    let answer = edge.get("/", &[("ctstickiness", &key)]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    assert!(backends[1].seen().iter().all(|request| request.key() != key));
}

#[tokio::test]
async fn a_node_that_dies_before_its_answer_is_asked_again_only_if_that_is_safe() {
    let die = |request: &support::backend::Request| if request.path == "/" { Reply::text("x") } else { Reply::Die };
    let backend = Backend::new(1, die).await;
    let edge = Edge::with(&[&backend]).await;
    let post = edge.post("/deadly", &[("ctstickiness", "k")], b"once").await;
    assert_eq!(post.status, 502);
    assert_eq!(post.json()["code"], "NodeFailed");
    assert_eq!(backend.seen().len(), 1, "a POST may have been done");
    let get = edge.get("/deadly", &[("ctstickiness", "k")]).await;
    assert_eq!(get.status, 502);
    assert!((2..=6).contains(&(backend.seen().len() - 1)), "{} tries", backend.seen().len() - 1);
}

#[tokio::test]
async fn without_any_node_the_answer_is_clear_to_programs_and_people() {
    let mut backend = Backend::named(1).await;
    let edge = Edge::with(&[&backend]).await;
    backend.kill().await;
    edge.wait_for_state("node-1", "down").await;
    for path in ["/api/meta", "/socket.io/?EIO=4", "/"] {
        let answer = edge.get(path, &[]).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{path}");
        let info = answer.json();
        assert_eq!(info["code"], "NoNodeAvailable");
        assert!(info["params"].is_array() && info["message"].is_string());
    }
    let page = edge.get("/", &[("Accept", "text/html,*/*;q=0.8")]).await;
    assert_eq!((page.status, page.header("retry-after")), (503, Some("2")));
    assert!(page.text().contains("<h1>503</h1>"));
    let health = edge.get("/ct-health/", &[]).await;
    assert_eq!((health.status, health.json()["nodes_up"].as_u64()), (503, Some(0)));
}

#[tokio::test]
async fn a_node_that_is_silent_is_a_504() {
    let backend = Backend::new(1, |_| Reply::Hang).await;
    let mut settings = support::settings(&[&backend]);
    settings.timeouts.response = Duration::from_millis(300);
    let edge = Edge::start(settings).await;
    let answer = edge.get("/", &[]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (504, Some("NodeTimeout")));
    assert_eq!(backend.seen().len(), 1, "who is slow is not asked twice");
}

#[tokio::test]
async fn a_tunnel_that_waits_on_a_node_that_freezes_is_opened_elsewhere() {
    let echo = |number| {
        Backend::new(number, |request| {
            if request.header("upgrade").is_some() { Reply::Echo(Vec::new()) } else { Reply::text("x") }
        })
    };
    let backends = [echo(1).await, echo(2).await];
    let mut settings = support::settings(&[&backends[0], &backends[1]]);
    settings.health.timeout = Duration::from_millis(600);
    settings.timeouts.response = Duration::from_secs(600);
    let edge = Edge::start(settings).await;
    let key = key_on(&edge, "node-1").await;
    backends[0].is_frozen.store(true, std::sync::atomic::Ordering::SeqCst);
    let opened = edge.client().await.upgrade("/ws", &[("ctstickiness", &key)], b"").await;
    assert_eq!((opened.status, opened.node()), (101, "node-2"));
}

#[tokio::test]
async fn a_request_that_waits_on_a_node_that_freezes_goes_elsewhere_or_is_refused_at_once() {
    let backends = [Backend::named(1).await, Backend::named(2).await];
    let mut settings = support::settings(&[&backends[0], &backends[1]]);
    settings.health.timeout = Duration::from_millis(600);
    settings.timeouts.response = Duration::from_secs(600);
    let edge = Edge::start(settings).await;
    let key = key_on(&edge, "node-1").await;
    backends[0].is_frozen.store(true, std::sync::atomic::Ordering::SeqCst);
    let headers = [("ctstickiness", key.as_str())];
    let (got, posted) = tokio::join!(edge.get("/", &headers), edge.post("/", &headers, b"x"));
    assert_eq!((got.status, got.text()), (200, "node-2"));
    assert_eq!((posted.status, posted.json()["code"].as_str()), (502, Some("NodeFailed")));
}

#[tokio::test]
async fn a_draining_node_keeps_its_keys_and_gets_no_others() {
    let backends = [Backend::named(1).await, Backend::named(2).await];
    for backend in &backends {
        *backend.health.lock().unwrap() = Some(NodeStatus::Ready);
    }
    let edge = Edge::with(&backends.iter().collect::<Vec<_>>()).await;
    let key = key_on(&edge, "node-1").await;
    *backends[0].health.lock().unwrap() = Some(NodeStatus::Draining);
    edge.wait_for_state("node-1", "draining").await;
    assert_eq!(edge.get("/", &[("ctstickiness", &key)]).await.node(), "node-1");
    for _ in 0..20 {
        assert_eq!(edge.get("/", &[]).await.node(), "node-2");
    }
}

#[tokio::test]
async fn a_create_that_a_draining_node_refuses_goes_to_another() {
    let refuse = |request: &support::backend::Request| match request.method.as_str() {
        "POST" => Reply::status(503, &[("Retry-After", "1")]),
        _ => Reply::text("node-1"),
    };
    let backends = [Backend::new(1, refuse).await, Backend::named(2).await];
    let edge = Edge::with(&backends.iter().collect::<Vec<_>>()).await;
    for _ in 0..10 {
        let created = edge.post("/api/session/create", &[], b"{}").await;
        assert_eq!((created.status, created.node()), (200, "node-2"));
    }
    let settled = key_on(&edge, "node-1").await;
    let refused = edge.post("/anything", &[("ctstickiness", &settled)], b"{}").await;
    assert_eq!((refused.status, refused.node()), (503, "node-1"), "a session that lives does not move");
}

#[tokio::test]
async fn health_checks_that_fail_take_a_node_down_and_up_again() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.health.path = "/healthy".into();
    let edge = Edge::start(settings).await;
    edge.wait_for_state("node-1", "ready").await;
    assert!(backend.seen().iter().all(|request| request.path == "/healthy"));
}

/// A node of ours that answers as the owner of any key, since the epoch that `epoch` has at that moment.
async fn owner(number: usize, epoch: Arc<AtomicU64>) -> Backend {
    Backend::new(number, move |_| {
        let epoch = epoch.load(Ordering::Relaxed).to_string();
        Reply::status(200, &[("x-ctedge-epoch", &epoch)])
    })
    .await
}

#[tokio::test]
async fn two_nodes_that_answer_as_the_owner_of_one_key_are_counted() {
    let epoch = Arc::new(AtomicU64::new(7));
    let mut backends = [owner(1, Arc::clone(&epoch)).await, owner(2, Arc::clone(&epoch)).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    let counted = async || {
        let metrics = edge.admin("GET", "/metrics").await;
        let line = metrics.text().lines().find(|line| line.starts_with("ctedge_balancer_two_owners_total "));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok()).unwrap_or(u64::MAX)
    };
    let key = key_on(&edge, "node-1").await;
    assert_eq!(edge.get("/", &[("ctstickiness", &key)]).await.node(), "node-1");
    assert_eq!(counted().await, 0);

    // The second takes its place, and claims the key for a time at which the first had it.
    backends[0].kill().await;
    edge.wait_for_state("node-1", "down").await;
    let told = edge.get("/", &[("ctstickiness", &key)]).await;
    assert_eq!((told.status, told.node()), (200, "node-2"));
    assert_eq!(counted().await, 1);
    // And for one that is over.
    epoch.store(6, Ordering::Relaxed);
    edge.get("/", &[("ctstickiness", &key)]).await;
    assert_eq!(counted().await, 2);
    // A later one is what a takeover looks like.
    epoch.store(8, Ordering::Relaxed);
    edge.get("/", &[("ctstickiness", &key)]).await;
    assert_eq!(counted().await, 2);
}

#[tokio::test]
async fn who_reaches_a_node_that_was_given_up_goes_where_its_sessions_are() {
    let backends = [Backend::named(1).await, Backend::named(2).await];
    for backend in &backends {
        *backend.health.lock().unwrap() = Some(NodeStatus::Ready);
        backend.shares_ownership.store(true, Ordering::SeqCst);
        backend.report.lock().unwrap().incarnation = 7;
    }
    let edge = Edge::with(&backends.iter().collect::<Vec<_>>()).await;
    let key = key_on(&edge, "node-1").await;
    let node = async || edge.get("/", &[("ctstickiness", &key)]).await.node().to_owned();
    // The other node has seen its lease end, and it does not know.
    backends[1].report.lock().unwrap().over = vec![LeaseOver { node: "node-1".into(), incarnation: 7 }];
    until("the session goes on elsewhere", async || node().await == "node-2").await;
    let state = async || edge.admin("GET", "/status").await.json()["nodes"][0].clone();
    let told = state().await;
    assert_eq!(told["state"], "down");
    assert!(told["trouble"].as_str().unwrap().contains("its lease is over"), "{told}");
    backends[0].report.lock().unwrap().incarnation = 8;
    until("it has begun anew", async || state().await["state"] == "ready").await;
}
