//! The operators' figures: each node's own and the sums, as Prometheus reads them and as StatsD receives them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::support::peer::Peer;
use crate::support::{Answer, Ask, DEADLINE, TestNode, info, store_in};
use ctedge_ownership::{Command, Lease, LeaseId, NodeId};
use ctedge_settings::{NodeSettings, StatsdProtocol, StatsdSettings};
use ctedge_store::Store;
use ctedge_telemetry::Figures;
use ctedge_wire::{HealthReport, NodeStatus};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

async fn public(folder: &Path, id: &str) -> TestNode {
    TestNode::sharing_with(folder, id, |settings| settings.metrics.prometheus = true).await
}

/// The public `/metrics`, as a balancer asks for it.
fn metrics(node: &TestNode) -> Ask<'_> {
    node.get("/metrics").header("x-forwarded-for", "192.0.2.1")
}

fn has(lines: &[&str]) -> impl Fn(&Answer) -> bool {
    move |answer| lines.iter().all(|line| answer.body.lines().any(|found| found == *line))
}

/// Waits until the node shows all of these.
async fn shows(node: &TestNode, lines: &[&str]) {
    let shown = tokio::time::timeout(DEADLINE, node.until(|| metrics(node), has(lines))).await;
    if shown.is_err() {
        panic!("not all of {lines:?} in\n{}", metrics(node).send().await.body);
    }
}

async fn host<'a>(node: &'a TestNode, key: &str, user: &str) -> Peer<'a> {
    let login = node.login(user).await;
    let created = node.post("/api/session/create").key(key).token(&login).send().await;
    Peer::connect(node, key, created.json()["roomToken"].as_str().unwrap()).await
}

#[tokio::test]
async fn any_node_knows_the_sums_and_counts_a_user_of_two_nodes_once() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (public(folder.path(), "a").await, public(folder.path(), "b").await);
    host(&first, "one", "Ada").await;
    host(&first, "two", "Grace").await;
    host(&second, "three", "Ada").await;
    for node in [&first, &second] {
        let lines = [
            "codetogether_active_sessions 3",
            "codetogether_active_session_connections 3",
            "codetogether_unique_users_online 2",
            "codetogether_sessions_hosted_total 3",
            "codetogether_downloads_total{ide=\"vscode\"} 0",
            "codetogether_node_active_sessions{node=\"a\"} 2",
            "codetogether_node_active_sessions{node=\"b\"} 1",
            "codetogether_node_unique_users_online{node=\"b\"} 1",
            "codetogether_node_sessions_hosted_total{node=\"a\"} 2",
        ];
        shows(node, &lines).await;
    }
}

#[tokio::test]
async fn a_node_that_ends_leaves_the_sums_and_what_it_hosted_stays_counted() {
    let folder = TempDir::new().unwrap();
    let (first, mut second) = (public(folder.path(), "a").await, public(folder.path(), "b").await);
    host(&first, "one", "Ada").await;
    first.handle().downloaded("vscode", "1.0", "client.vsix");
    shows(&second, &["codetogether_active_sessions 1", "codetogether_downloads_total{ide=\"vscode\"} 1"]).await;
    shows(&second, &["codetogether_node_downloads_total{ide=\"vscode\",node=\"a\"} 1"]).await;
    // Frozen or dead: nobody ends its lease, and its heartbeat stands still.
    drop(first);
    shows(&second, &["codetogether_active_sessions 0", "codetogether_sessions_hosted_total 1"]).await;
    let text = metrics(&second).send().await.body;
    assert!(!text.contains("node=\"a\""), "{text}");
    second.stop();
    second.stopped().await;
    // A node that finds the store as others left it goes on counting from there.
    let third = public(folder.path(), "c").await;
    host(&third, "two", "Ada").await;
    let lines = ["codetogether_sessions_hosted_total 2", "codetogether_downloads_total{ide=\"vscode\"} 1"];
    shows(&third, &lines).await;
}

/// Answers for a lease as a node that lives does.
async fn answer_for(listener: TcpListener, lease: LeaseId) {
    let (node, incarnation) = (lease.node.as_str().to_owned(), lease.incarnation);
    let body = serde_json::to_string(&HealthReport { node, incarnation, ..HealthReport::default() }).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.read(&mut [0; 512]).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    }
}

/// The heartbeat of a lease with seven sessions.
async fn beat(store: Store, lease: LeaseId) {
    let report = json!({"figures": Figures { sessions: 7, ..Figures::default() }}).to_string();
    loop {
        let (lease, status, report) = (lease.clone(), NodeStatus::Ready, report.clone());
        store.execute(Command::Beat { lease, status, report }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_node_whose_heartbeat_stands_still_is_left_out_although_it_lives() {
    let folder = TempDir::new().unwrap();
    let node = public(folder.path(), "a").await;
    let store = Store::open(&store_in(folder.path())).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (lease, address) = (LeaseId::new(NodeId::new("z"), 7), listener.local_addr().unwrap());
    store.execute(Command::Register { lease: lease.clone(), address, pid: 1 }).await.unwrap();
    let answering = tokio::spawn(answer_for(listener, lease.clone()));
    let beating = tokio::spawn(beat(store.clone(), lease.clone()));
    shows(&node, &["codetogether_active_sessions 7", "codetogether_node_active_sessions{node=\"z\"} 7"]).await;
    beating.abort();
    shows(&node, &["codetogether_active_sessions 0"]).await;
    let lives = |found: &Lease| found.id == lease && found.ended.is_none();
    assert!(store.leases().await.unwrap().iter().any(lives), "nobody has ended its lease");
    answering.abort();
}

#[tokio::test]
async fn without_a_store_a_node_shows_its_own_figures_alone() {
    let node = TestNode::start_with(|settings| settings.metrics.prometheus = true).await;
    host(&node, "one", "Ada").await;
    shows(&node, &["codetogether_node_active_sessions{node=\"node-1\"} 1"]).await;
    let text = metrics(&node).send().await.body;
    assert!(!text.contains("\ncodetogether_active_sessions"), "{text}");
}

#[tokio::test]
async fn the_public_sees_figures_only_where_the_settings_say_so_and_nothing_else() {
    let hidden = TestNode::start().await;
    assert_eq!(metrics(&hidden).send().await.info(), info(404, "BadRequest"));
    let shown = TestNode::start_with(|settings| settings.metrics.prometheus = true).await;
    let answer = metrics(&shown).send().await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!answer.body.contains("ctedge_"), "what a node counts inside is not public: {}", answer.body);
    assert!(shown.get("/metrics").send().await.body.contains("ctedge_node_sessions 0"));
}

/// Lets a node send to `receiver` four times a second.
fn sends_to(receiver: &UdpSocket) -> impl FnOnce(&mut NodeSettings) {
    let statsd = StatsdSettings {
        host: "127.0.0.1".into(),
        port: receiver.local_addr().unwrap().port(),
        protocol: StatsdProtocol::Udp,
        prefix: "edge".into(),
        tags: false,
        interval: Duration::from_millis(250),
    };
    |settings| settings.metrics.statsd = Some(statsd)
}

/// Receives until `done` says so of the lines.
async fn receive(receiver: &UdpSocket, mut done: impl FnMut(&BTreeSet<String>) -> bool) {
    let receiving = async {
        let mut datagram = vec![0; 65_536];
        loop {
            let length = receiver.recv(&mut datagram).await.unwrap();
            let text = String::from_utf8_lossy(&datagram[..length]);
            if done(&text.lines().map(str::to_owned).collect()) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, receiving).await.expect("the lines come in time");
}

#[tokio::test]
async fn each_node_sends_its_own_figures_and_one_of_them_the_sums() {
    let folder = TempDir::new().unwrap();
    let (of_first, of_second) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let first = TestNode::sharing_with(folder.path(), "a", sends_to(&of_first)).await;
    let second = TestNode::sharing_with(folder.path(), "b", sends_to(&of_second)).await;
    host(&second, "one", "Ada").await;
    receive(&of_first, |lines| {
        lines.contains("edge.active_sessions:1|g") && lines.contains("edge.nodes.a.active_sessions:0|g")
    })
    .await;
    // Whoever knows that another speaks for all is silent about the sums.
    let mut own = 0;
    receive(&of_second, |lines| {
        assert!(lines.iter().any(|line| line.starts_with("edge.nodes.b.active_sessions:")), "{lines:?}");
        own = if lines.iter().all(|line| line.starts_with("edge.nodes.b.")) { own + 1 } else { 0 };
        own == 4
    })
    .await;
    // The speaker is gone: the next one takes over.
    drop(first);
    receive(&of_second, |lines| lines.contains("edge.active_sessions:1|g")).await;
}

#[tokio::test]
async fn a_node_that_stops_leaves_no_figure_behind() {
    let folder = TempDir::new().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut node = TestNode::sharing_with(folder.path(), "a", |settings| {
        sends_to(&receiver)(settings);
        // The host does not come to hear that it is sent away.
        settings.timeouts.stop = Duration::from_secs(1);
    })
    .await;
    host(&node, "one", "Ada").await;
    receive(&receiver, |lines| lines.contains("edge.nodes.a.unique_users_online:1|g")).await;
    node.stop();
    node.stopped().await;
    // What comes behind the last point would be the last.
    let mut last = BTreeSet::new();
    let mut datagram = vec![0; 65_536];
    while let Ok(length) = receiver.try_recv(&mut datagram) {
        last = String::from_utf8_lossy(&datagram[..length]).lines().map(str::to_owned).collect();
    }
    for line in [
        "edge.nodes.a.active_sessions:0|g",
        "edge.nodes.a.active_session_connections:0|g",
        "edge.nodes.a.unique_users_online:0|g",
        "edge.nodes.a.total_sessions_hosted:1|g",
        "edge.unique_users_online:0|g",
        "edge.total_sessions_hosted:1|g",
    ] {
        assert!(last.contains(line), "{line} is missing in {last:?}");
    }
}
