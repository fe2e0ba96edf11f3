//! A backend that costs next to nothing, so that what a balancer in front of it costs can be compared.
//!
//! Each address is a node of its own. `GET /` answers a few bytes and `GET /bytes/N` N of them; a WebSocket at any path is
//! echoed; `/ct-health/` says `ready`. Every answer names the node in `x-ctedge-node`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use clap::Args;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::frame::{self, Opcode};

/// Where to listen.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackendArguments {
    /// An address to listen on; each is a node of its own
    #[arg(long = "listen", value_name = "ADDR", required = true)]
    addresses: Vec<SocketAddr>,
}

const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The longest body that `/bytes/N` gives.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const READ_BYTES: usize = 8 * 1024;
/// The answer to everything that is not asked for by length.
const SMALL_BODY: &str = "hello\n";
/// RFC 6455, section 1.3.
const HANDSHAKE_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Serves until it is killed.
pub(crate) async fn run(arguments: BackendArguments) -> Result<()> {
    let mut nodes = Vec::new();
    for (index, address) in arguments.addresses.iter().enumerate() {
        let (name, listener) = (format!("backend-{}", index + 1), bind(*address).await?);
        println!("{name} {}", listener.local_addr()?);
        nodes.push(tokio::task::spawn_local(accept(listener, name)));
    }
    for node in nodes {
        node.await??;
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// A node on a free port of the loopback address, for as long as the runtime lives.
#[cfg(test)]
pub(crate) async fn spawn(name: &str) -> SocketAddr {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(accept(listener, name.to_owned()));
    address
}

async fn accept(listener: TcpListener, node: String) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let node = node.clone();
        // A client that goes away in the middle of anything is no concern of a backend.
        tokio::task::spawn_local(async move { serve(stream, &node).await.ok() });
    }
}

/// What a request asked for.
struct Request {
    head_bytes: usize,
    body_bytes: usize,
    path: String,
    websocket_key: Option<String>,
    wants_close: bool,
}

async fn serve(mut stream: TcpStream, node: &str) -> Result<()> {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut answer = Vec::new();
    loop {
        let Some(request) = parse(&buffer)? else {
            ensure!(
                buffer.len() <= HEAD_BYTES_MAX && stream.read_buf(&mut buffer).await? > 0,
                "the request has no end"
            );
            continue;
        };
        while buffer.len() < request.head_bytes + request.body_bytes {
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the request's body has no end");
        }
        buffer.drain(..request.head_bytes + request.body_bytes);
        if let Some(key) = &request.websocket_key {
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nx-ctedge-node: {node}\r\n\
                 sec-websocket-accept: {}\r\n\r\n",
                accept_key(key)
            );
            stream.write_all(head.as_bytes()).await?;
            return echo(stream, buffer).await;
        }
        answer.clear();
        append_answer(&mut answer, &request, node);
        stream.write_all(&answer).await?;
        if request.wants_close {
            return Ok(());
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = parsed.parse(bytes)? else { return Ok(None) };
    let path = parsed.path.unwrap_or("/").to_owned();
    let mut request =
        Request { head_bytes, body_bytes: 0, path, websocket_key: None, wants_close: parsed.version == Some(0) };
    for header in &*parsed.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            request.body_bytes = std::str::from_utf8(header.value)?.trim().parse()?;
        } else if header.name.eq_ignore_ascii_case("sec-websocket-key") {
            request.websocket_key = Some(std::str::from_utf8(header.value)?.trim().to_owned());
        } else if header.name.eq_ignore_ascii_case("connection") {
            request.wants_close |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    ensure!(request.body_bytes <= BODY_BYTES_MAX, "the request's body is too long");
    Ok(Some(request))
}

fn append_answer(answer: &mut Vec<u8>, request: &Request, node: &str) {
    let path = request.path.split('?').next().unwrap_or_default();
    let health = path.ends_with("/ct-health/").then(|| {
        let pid = std::process::id();
        format!(r#"{{"status":"ready","node":"{node}","pid":{pid},"version":"0","uptime_s":0,"sessions":0,"peers":0,"connections":0,"lag_ms":0}}"#)
    });
    let small = health.as_deref().unwrap_or(SMALL_BODY);
    let length = path.strip_prefix("/bytes/").and_then(|length| length.parse().ok());
    let length: usize = length.map_or(small.len(), |length: usize| length.min(BODY_BYTES_MAX));
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nx-ctedge-node: {node}\r\n{}\r\n",
        if request.wants_close { "connection: close\r\n" } else { "" }
    );
    answer.extend_from_slice(head.as_bytes());
    let body_at = answer.len();
    if length == small.len() {
        answer.extend_from_slice(small.as_bytes());
    } else {
        answer.resize(body_at + length, b'x');
    }
}

/// Sends every message back in one write for all that one read brought.
async fn echo(mut stream: TcpStream, mut buffer: Vec<u8>) -> Result<()> {
    let mut out = Vec::new();
    loop {
        let mut start = 0;
        let mut closes = false;
        while let Some(frame) = frame::parse(&buffer, start)? {
            start = frame.payload.end;
            let payload = &mut buffer[frame.payload];
            frame::apply_mask(payload, frame.mask.unwrap_or_default());
            let opcode = match frame.opcode {
                Opcode::Pong => continue,
                Opcode::Ping => Opcode::Pong,
                same => same,
            };
            closes |= opcode == Opcode::Close;
            frame::append(&mut out, opcode, None, payload);
        }
        buffer.drain(..start);
        stream.write_all(&out).await?;
        out.clear();
        if closes || stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

fn accept_key(key: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(Sha1::digest(format!("{key}{HANDSHAKE_GUID}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_answer_has_the_length_that_was_asked_for() {
        let request = parse(b"GET /bytes/70000?x HTTP/1.1\r\nhost: h\r\n\r\n").unwrap().unwrap();
        let mut answer = Vec::new();
        append_answer(&mut answer, &request, "n");
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(answer.len() - head_end, 70_000);
    }
}
