//! HTTPS: certificates by name, their reload, HTTP/2, and tunnels within TLS.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ctedge_settings::{BalancerSettings, CertificateFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use support::{Backend, Client, Edge, Reply, until};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Writes a self-signed certificate for `name` and returns it.
fn write_certificate(directory: &Path, file: &str, name: &str) -> (CertificateFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let files = CertificateFiles {
        chain: directory.join(format!("{file}.pem")),
        key: directory.join(format!("{file}-key.pem")),
    };
    std::fs::write(&files.chain, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().clone())
}

fn secure(backend: &Backend, certificates: Vec<CertificateFiles>) -> BalancerSettings {
    let mut settings = support::settings(&[backend]);
    settings.https = Some("127.0.0.1:0".parse().unwrap());
    settings.certificates = certificates;
    settings
}

/// Shakes hands as a client that trusts these certificates only.
async fn handshake(
    edge: &Edge,
    name: &str,
    trusted: &[&CertificateDer<'static>],
    protocol: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let tcp = TcpStream::connect(edge.addresses.https.unwrap()).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

async fn https(edge: &Edge, name: &str, trusted: &[&CertificateDer<'static>]) -> std::io::Result<TlsStream<TcpStream>> {
    handshake(edge, name, trusted, "http/1.1", &[&rustls::version::TLS13]).await
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_and_the_first_is_the_default() {
    let directory = TempDir::new().unwrap();
    let (one, one_der) = write_certificate(directory.path(), "one", "one.test");
    let (two, two_der) = write_certificate(directory.path(), "two", "*.two.test");
    let backend = Backend::named(1).await;
    let edge = Edge::start(secure(&backend, vec![one, two])).await;
    https(&edge, "one.test", &[&one_der]).await.unwrap();
    https(&edge, "a.two.test", &[&two_der]).await.unwrap();
    let unknown = https(&edge, "three.test", &[&one_der, &two_der]).await.unwrap_err();
    assert!(
        unknown.to_string().contains("NotValidForName") || unknown.to_string().contains("not valid for name"),
        "{unknown}"
    );
    let old = handshake(&edge, "one.test", &[&one_der], "http/1.1", &[&rustls::version::TLS12]).await.unwrap();
    assert_eq!(old.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
}

#[tokio::test]
async fn requests_and_cookies_within_tls_are_secure() {
    let directory = TempDir::new().unwrap();
    let (files, der) = write_certificate(directory.path(), "edge", "edge.test");
    let backend = Backend::named(1).await;
    let edge = Edge::start(secure(&backend, vec![files])).await;
    let mut client = Client::over(https(&edge, "edge.test", &[&der]).await.unwrap());
    let answer = client.request("GET", "/", &[], b"").await;
    assert!(answer.header("set-cookie").unwrap().contains("; Secure"));
    assert_eq!(backend.seen()[0].header("x-forwarded-proto"), Some("https"));
    assert_eq!(client.request("GET", "/again", &[], b"").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn changed_certificates_are_used_and_wrong_ones_are_not() {
    let directory = TempDir::new().unwrap();
    let (files, before) = write_certificate(directory.path(), "edge", "edge.test");
    let backend = Backend::named(1).await;
    let edge = Edge::start(secure(&backend, vec![files.clone()])).await;
    let mut lasting = Client::over(https(&edge, "edge.test", &[&before]).await.unwrap());

    std::fs::write(&files.chain, "no certificate").unwrap();
    let refused = edge.handle.reload().await.unwrap_err().to_string();
    assert!(refused.contains("edge.pem"), "{refused}");
    https(&edge, "edge.test", &[&before]).await.unwrap();

    let (_, after) = write_certificate(directory.path(), "edge", "edge.test");
    edge.handle.reload().await.unwrap();
    https(&edge, "edge.test", &[&after]).await.unwrap();
    https(&edge, "edge.test", &[&before]).await.unwrap_err();
    assert_eq!(lasting.request("GET", "/", &[], b"").await.status, 200, "connections outlive their certificate");
}

#[tokio::test]
async fn changed_certificate_files_are_noticed() {
    let directory = TempDir::new().unwrap();
    let (files, _) = write_certificate(directory.path(), "edge", "edge.test");
    let backend = Backend::named(1).await;
    let edge = Edge::start(secure(&backend, vec![files])).await;
    let (_, after) = write_certificate(directory.path(), "edge", "edge.test");
    until("the files are read again", async || https(&edge, "edge.test", &[&after]).await.is_ok()).await;
}

#[tokio::test]
async fn a_tunnel_within_tls_carries_early_and_later_bytes() {
    let directory = TempDir::new().unwrap();
    let (files, der) = write_certificate(directory.path(), "edge", "edge.test");
    let backend = Backend::new(1, |_| Reply::Echo(b"hello ".to_vec())).await;
    let edge = Edge::start(secure(&backend, vec![files])).await;
    let mut client = Client::over(https(&edge, "edge.test", &[&der]).await.unwrap());
    assert_eq!(client.upgrade("/ws", &[], b"early").await.status, 101);
    assert_eq!(client.exactly(11).await, b"hello early");
    let sent = vec![7; 100_000];
    client.send(&sent).await;
    assert!(client.exactly(sent.len()).await == sent);
}

#[tokio::test]
async fn http_2_requests_are_proxied_and_their_split_cookies_joined() {
    let directory = TempDir::new().unwrap();
    let (files, der) = write_certificate(directory.path(), "edge", "edge.test");
    let backend = Backend::new(1, |request| Reply::text(format!("{}", request.body.len()))).await;
    let edge = Edge::start(secure(&backend, vec![files])).await;
    let tls = handshake(&edge, "edge.test", &[&der], "h2", &[&rustls::version::TLS13]).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) = h2::client::handshake(tls).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = http::Request::post("https://edge.test/over/h2?x=1")
        .header("cookie", "a=1")
        .header("cookie", "ctstickiness=room")
        .header("cookie", "b=2")
        .header("content-length", "12")
        .body(())
        .unwrap();
    let (answer, mut body) = send.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"twelve bytes"), true).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-ctedge-node"], "node-1");
    let received = answer.into_body().data().await.unwrap().unwrap();
    assert_eq!(&received[..], b"12");
    let seen = backend.seen().remove(0);
    assert_eq!((seen.key(), seen.path.as_str()), ("room", "/over/h2?x=1"));
    assert_eq!(seen.header("cookie"), Some("a=1; ctstickiness=room; b=2"));
    assert_eq!(seen.header("host"), Some("edge.test"));
    assert_eq!(seen.header("x-forwarded-host"), Some("edge.test"));
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));
    driving.abort();
}

#[tokio::test]
async fn a_reloaded_limit_counts_for_http_2_connections_that_begin_after_it() {
    let directory = TempDir::new().unwrap();
    let (files, der) = write_certificate(directory.path(), "edge", "edge.test");
    let backend = Backend::named(1).await;
    let mut settings = secure(&backend, vec![files]);
    settings.limits.header_bytes_max = 4096;
    let edge = Edge::start(settings.clone()).await;
    let status = async || {
        let tls = handshake(&edge, "edge.test", &[&der], "h2", &[&rustls::version::TLS13]).await.unwrap();
        let (mut send, connection) = h2::client::handshake(tls).await.unwrap();
        let driving = tokio::spawn(connection);
        let request = http::Request::get("https://edge.test/").header("x-large", "x".repeat(5000)).body(()).unwrap();
        let (answer, _) = send.send_request(request, true).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap();
        driving.abort();
        answer.map(|answer| answer.status().as_u16()).ok()
    };
    assert_ne!(status().await, Some(200));
    settings.limits.header_bytes_max = 32 * 1024;
    *edge.source.0.lock().unwrap() = Ok(settings);
    assert_eq!(edge.admin("POST", "/reload").await.json()["ok"], true);
    assert_eq!(status().await, Some(200));
}

#[tokio::test]
async fn a_handshake_that_fails_is_counted_by_its_reason() {
    let directory = TempDir::new().unwrap();
    let (files, _) = write_certificate(directory.path(), "edge", "edge.test");
    let (_, other) = write_certificate(directory.path(), "other", "edge.test");
    let backend = Backend::named(1).await;
    let edge = Edge::start(secure(&backend, vec![files])).await;
    let counted = async |reason: &str| {
        let line = format!("ctedge_balancer_refused_total{{reason=\"{reason}\"}} 1\n");
        until(&line, async || String::from_utf8(edge.admin("GET", "/metrics").await.body).unwrap().contains(&line))
            .await;
    };
    https(&edge, "edge.test", &[&other]).await.unwrap_err();
    counted("tls_declined").await;

    let port = edge.addresses.https.unwrap();
    let mut plain = Client::connect(port).await;
    plain.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    plain.rest().await;
    counted("tls_not").await;

    Client::connect(port).await.end().await;
    counted("tls_gone").await;

    // A hello of TLS 1.0: version, random, no session, one cipher suite of its time, no compression.
    let hello = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 0x2f], &[1, 0]].concat();
    let length = hello.len() as u8;
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    let mut old = Client::connect(port).await;
    old.send(&record).await;
    old.rest().await;
    counted("tls_incompatible").await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended() {
    let directory = TempDir::new().unwrap();
    let (files, _) = write_certificate(directory.path(), "edge", "edge.test");
    let backend = Backend::named(1).await;
    let mut settings = secure(&backend, vec![files]);
    settings.timeouts.header = Duration::from_millis(300);
    let edge = Edge::start(settings).await;
    let mut silent = Client::connect(edge.addresses.https.unwrap()).await;
    assert!(silent.rest().await.is_empty());
}
