//! One HTTP request to a node outside of any client's: a health check, an operator's word, a question.
//!
//! Each one opens its own connection: that a node still accepts is a part of the question.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::tunnel::dial::{DialError, ask};

/// A node's answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Sends a request without a body and reads the whole answer, all within `time_max`.
pub(crate) async fn request(
    node: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    time_max: Duration,
) -> Result<Reply, DialError> {
    let head = head(node, method, path, headers);
    let deadline = Instant::now() + time_max;
    let dialed = ask(node, head.as_bytes(), time_max, time_max).await?;
    let status = dialed.status.as_u16();
    let body = dialed.read_body(deadline).await?.to_vec();
    Ok(Reply { status, body })
}

/// The head of a request without a body, after whose answer the connection ends.
pub(crate) fn head(node: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {node}\r\nconnection: close\r\ncontent-length: 0\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// Whether nobody listens at the address, which says more than a timeout does.
pub(crate) fn was_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
