//! A node learns of a download when the client has all of it, and not before.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::time::Duration;

use socket2::SockRef;
use support::{Backend, Edge, Reply, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// More than the kernel of a client that does not read takes, and so little that the balancer has written all of it then.
const BYTES: usize = 120 << 10;

/// What the kernel of such a client takes.
const CLIENT_BYTES: u32 = 16 << 10;

/// A node with one thing to download, if whoever asks tells what becomes of it.
async fn node(number: usize) -> Backend {
    Backend::new(number, |request| match request.path.as_str() {
        "/clients/it" => {
            assert_eq!(request.header("x-ctedge-download"), Some("told"));
            Reply::Answer(200, vec![("x-ctedge-download".into(), "it".into())], vec![b'x'; BYTES])
        }
        "/ct-control/downloaded" => Reply::Answer(204, Vec::new(), Vec::new()),
        _ => {
            assert_eq!(request.header("x-ctedge-download"), None);
            Reply::text("")
        }
    })
    .await
}

/// How many nodes were told, and what.
fn told(backends: &[&Backend]) -> Vec<String> {
    let seen = backends.iter().flat_map(|backend| backend.seen());
    let word = |request: support::backend::Request| {
        assert_eq!(request.header("x-ctedge-control"), Some(support::secret().control_token().as_str()));
        request.header("x-ctedge-download").unwrap().to_owned()
    };
    seen.filter(|request| request.path == "/ct-control/downloaded").map(word).collect()
}

#[tokio::test]
async fn a_node_is_told_when_the_client_has_all_of_its_download() {
    let backend = node(1).await;
    let edge = Edge::with(&[&backend]).await;
    let mut client = edge.client().await;
    for round in 1..=2 {
        let answer = client.request("GET", "/clients/it", &[], b"").await;
        assert_eq!((answer.body.len(), answer.header("x-ctedge-download")), (BYTES, None));
        until("the node is told", async || told(&[&backend]).len() == round).await;
        // A stranger's word is none.
        assert_eq!(client.request("GET", "/", &[("x-ctedge-download", "it")], b"").await.status, 200);
    }
    assert_eq!(client.request("POST", "/ct-control/downloaded", &[("x-ctedge-download", "it")], b"").await.status, 404);
    assert_eq!(told(&[&backend]), ["it", "it"]);
}

/// Asks for the download and takes what the kernel takes by itself.
async fn begin(edge: &Edge) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(CLIENT_BYTES).unwrap();
    let mut client = socket.connect(edge.http()).await.unwrap();
    client.write_all(b"GET /clients/it HTTP/1.1\r\nhost: edge.test\r\n\r\n").await.unwrap();
    client.read_exact(&mut [0; 64]).await.unwrap();
    client
}

async fn in_flight(edge: &Edge) -> u64 {
    edge.admin("GET", "/status").await.json()["balancer"]["requests_in_flight"].as_u64().unwrap()
}

#[tokio::test]
async fn a_client_that_goes_away_before_it_has_all_has_downloaded_nothing() {
    let backend = node(1).await;
    let edge = Edge::with(&[&backend]).await;
    let (reset, closed, mut slow) = (begin(&edge).await, begin(&edge).await, begin(&edge).await);
    // By then all that fits into buffers is there, of which nobody can be asked.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((told(&[&backend]).len(), in_flight(&edge).await), (0, 3));
    SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
    drop((reset, closed));
    until("both are gone", async || in_flight(&edge).await == 1).await;
    assert_eq!(told(&[&backend]), [""; 0]);
    // One that takes its time has it in the end.
    let mut all = Vec::new();
    while all.len() < BYTES {
        assert_ne!(slow.read_buf(&mut all).await.unwrap(), 0);
    }
    until("the node is told", async || told(&[&backend]).len() == 1).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_has_downloaded_nothing() {
    let backend = node(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.timeouts.body = Duration::from_millis(300);
    let edge = Edge::start(settings).await;
    let stalled = begin(&edge).await;
    until("the request is over", async || in_flight(&edge).await == 0).await;
    assert_eq!(told(&[&backend]), [""; 0]);
    drop(stalled);
}

#[tokio::test]
async fn another_node_is_told_where_the_one_that_served_it_has_gone() {
    let mut backends = [node(1).await, node(2).await];
    let edge = Edge::with(&[&backends[0], &backends[1]]).await;
    let mut client = begin(&edge).await;
    // All that fits into buffers is there by then, which is all that the node still had.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let served = backends.iter().position(|backend| !backend.seen().is_empty()).unwrap();
    backends[served].kill().await;
    let mut all = Vec::new();
    while all.len() < BYTES {
        assert_ne!(client.read_buf(&mut all).await.unwrap(), 0);
    }
    until("the other is told", async || told(&[&backends[1 - served]]).len() == 1).await;
}
