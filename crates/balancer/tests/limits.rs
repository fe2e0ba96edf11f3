//! What a client may not do, and what it is told then.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use ctedge_settings::Network;
use support::{Backend, Client, Edge, until};

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.limits.header_bytes_max = 4096;
    let edge = Edge::start(settings).await;
    let answer = edge.get("/", &[("X-Large", &"x".repeat(5000))]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (431, Some("HeaderTooLarge")));
    assert_eq!(edge.get("/", &[("X-Small", &"x".repeat(1000))]).await.status, 200);
    // A head without an end is cut off before it has taken a mebibyte.
    let mut endless = edge.client().await;
    endless.send(b"GET / HTTP/1.1\r\nX-Large: ").await;
    let piece = [b'x'; 1024];
    for _ in 0..200 {
        endless.send(&piece).await;
    }
    let rest = endless.rest().await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&rest));
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn a_head_that_trickles_in_has_a_deadline() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.timeouts.header = Duration::from_millis(400);
    let edge = Edge::start(settings).await;
    let mut slow = edge.client().await;
    // Each request of a connection has the time anew.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1200) {
        slow.send(b"GET / HTTP/1.1\r\nHost: x\r\n").await;
        slow.send(b"\r\n").await;
        assert_eq!(slow.answer().await.unwrap().status, 200);
    }
    slow.send(b"GET / HTTP/1.1\r\nHost: ").await;
    assert_eq!(slow.answer().await.unwrap().status, 408);
    // Whatever trickles in gives no more. A byte that crosses the end may take the answer back.
    let mut slow = edge.client().await;
    slow.send(b"GET / HTTP/1.1\r\nHost: ").await;
    while !slow.has_more(Duration::from_millis(20)).await {
        slow.send(b"x").await;
    }
    assert!(slow.answer().await.is_none_or(|answer| answer.status == 408));
    // Waiting for the next request is no head: keep-alive has its own time.
    let mut idle = edge.client().await;
    assert_eq!(idle.request("GET", "/", &[], b"").await.status, 200);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(idle.request("GET", "/", &[], b"").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_keep_alive_time() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.timeouts.keep_alive = Duration::from_secs(3);
    let edge = Edge::start(settings).await;
    let mut client = edge.client().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        assert_eq!(client.request("GET", "/", &[], b"").await.status, 200);
    }
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_by_its_announcement_or_on_its_way() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.limits.body_bytes_max = 1000;
    let edge = Edge::start(settings).await;
    assert_eq!(edge.post("/", &[], &[b'x'; 1000]).await.status, 200);
    let announced = edge.post("/", &[], &[b'x'; 1001]).await;
    assert_eq!((announced.status, announced.json()["code"].as_str()), (413, Some("BodyTooLarge")));
    let mut chunked = edge.client().await;
    chunked.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..4 {
        chunked.send(format!("12c\r\n{}\r\n", "x".repeat(300)).as_bytes()).await;
    }
    assert_eq!(chunked.answer().await.unwrap().status, 413);
}

/// The lines of an access log that end in `end`.
fn logged(path: &Path, end: &str) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| line.ends_with(end)).count()
}

#[tokio::test]
async fn what_is_refused_before_it_is_read_has_a_line_in_the_access_log() {
    let backend = Backend::named(1).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mut settings = support::settings(&[&backend]);
    settings.log.access = Some(path.clone());
    settings.limits.header_bytes_max = 4096;
    settings.timeouts.header = Duration::from_millis(100);
    let edge = Edge::start(settings).await;
    // Who goes away in the middle of a head was not refused.
    let mut gone = edge.client().await;
    gone.send(b"GET / HTTP/1.1\r\n").await;
    drop(gone);
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 200_000]].concat();
    for (sent, status) in [(b"no request\r\n\r\n".as_slice(), 400), (b"GET / HTTP/1.1\r\n", 408), (&endless, 431)] {
        let mut client = edge.client().await;
        client.send(sent).await;
        until("the connection is logged", async || logged(&path, &format!("] \"-\" {status} 0 \"-\" \"-\"")) == 1)
            .await;
    }
    let mut client = edge.client().await;
    client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().status, 405);
    until("the request is logged", async || std::fs::read_to_string(&path).unwrap().contains("\"CONNECT ")).await;
    assert_eq!(logged(&path, "\"-\" \"-\""), 4);
}

#[tokio::test]
async fn a_connection_that_is_refused_has_a_line_in_the_access_log() {
    let backend = Backend::named(1).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mut settings = support::settings(&[&backend]);
    settings.log.access = Some(path.clone());
    settings.limits.connections_per_address_max = 1;
    let edge = Edge::start(settings).await;
    let mut held = edge.client().await;
    assert_eq!(held.request("GET", "/", &[], b"").await.status, 200);
    let refused = edge.client().await;
    until("the refusal is logged", async || logged(&path, "] \"-\" 503 0 \"-\" \"-\"") == 1).await;
    drop(refused);
}

#[tokio::test]
async fn connections_are_bounded_for_all_and_for_each_address() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.limits.connections_per_address_max = 2;
    let edge = Edge::start(settings).await;
    let mut held = [edge.client().await, edge.client().await];
    for client in &mut held {
        assert_eq!(client.request("GET", "/", &[], b"").await.status, 200);
    }
    // The client has sent its request already when it is refused.
    let refused = edge.client().await.request("GET", "/", &[], b"").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(refused.json()["code"], "TooManyConnections");
    drop(held);
    until("there is room again", async || {
        edge.client().await.try_request("GET", "/", &[], b"").await.is_some_and(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_many_and_is_believed() {
    let backend = Backend::named(1).await;
    let mut settings = support::settings(&[&backend]);
    settings.limits.connections_per_address_max = 1;
    settings.trusted_proxies = vec![Network { address: "127.0.0.0".parse().unwrap(), prefix_bits: 8 }];
    let edge = Edge::start(settings).await;
    let mut proxies = [edge.client().await, edge.client().await];
    for proxy in &mut proxies {
        let headers =
            [("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "from-outside")];
        let answer = proxy.request("GET", "/", &headers, b"").await;
        assert!(answer.header("set-cookie").unwrap().contains("Secure"));
    }
    let seen = backend.seen().remove(0);
    assert_eq!(seen.header("x-real-ip"), Some("198.51.100.7"));
    assert_eq!(seen.header("x-forwarded-for"), Some("198.51.100.7, 127.0.0.1"));
    assert_eq!(seen.header("x-request-id"), Some("from-outside"));
}

#[tokio::test]
async fn malformed_requests_end_at_the_balancer() {
    let backend = Backend::named(1).await;
    let edge = Edge::with(&[&backend]).await;
    let check = async |request: &[u8], statuses: &[u16]| {
        let mut client: Client = edge.client().await;
        client.send(request).await;
        let status = client.answer().await.map_or(0, |answer| answer.status);
        assert!(statuses.contains(&status), "{status} for {}", String::from_utf8_lossy(request));
    };
    check(b"nonsense\r\n\r\n", &[400, 0]).await;
    check(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", &[400]).await;
    check(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", &[404, 400]).await;
    check(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", &[405]).await;
    check(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", &[400]).await;
    assert!(backend.seen().is_empty());
    check(b"GET http://edge.test/absolute?q HTTP/1.1\r\nHost: edge.test\r\n\r\n", &[200]).await;
    assert_eq!(backend.seen()[0].path, "/absolute?q");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::new(1, |request| support::Reply::text(request.path.clone())).await;
    let edge = Edge::with(&[&backend]).await;
    let mut client = edge.client().await;
    client
        .send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.answer().await.unwrap().text(), path);
    }
}
