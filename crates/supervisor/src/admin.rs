//! A client of the admin API: one request, one answer, over plain HTTP.
//!
//! HTTP/1.0 on purpose: the server then neither keeps the connection nor sends chunks, and the whole client is the
//! hundred lines below. It blocks; on a Tokio runtime, call it where blocking is allowed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// An answer of the admin API is a few kilobytes a node; more than this is none.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Speaks to the admin API at one address.
#[derive(Clone)]
pub struct AdminClient {
    address: SocketAddr,
    token: Option<String>,
    timeout: Duration,
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl AdminClient {
    /// A client for `address` with the bearer `token` that the API may ask for. `timeout` bounds the connecting and
    /// each read and write.
    #[must_use]
    pub fn new(address: SocketAddr, token: Option<String>, timeout: Duration) -> Self {
        Self { address, token, timeout }
    }

    /// Where the client speaks to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask("GET", path)
    }

    /// `POST path` without a body.
    pub fn post(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask("POST", path)
    }

    fn ask(&self, method: &str, path: &str) -> anyhow::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, self.timeout)
            .with_context(|| format!("nothing answers at the admin address {}", self.address))?;
        self.exchange(&mut stream, method, path)
            .with_context(|| format!("the admin API at {} gave no answer to {method} {path}", self.address))
    }

    fn exchange(&self, stream: &mut TcpStream, method: &str, path: &str) -> anyhow::Result<Answer> {
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let authorization =
            self.token.as_ref().map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n{authorization}Content-Length: 0\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        read_answer(&String::from_utf8(answer).context("the answer is no text")?)
    }
}

fn read_answer(text: &str) -> anyhow::Result<Answer> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("the answer ends within its head");
    };
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| status.parse().ok());
    let status = status.context("the answer is not HTTP")?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = read_answer("HTTP/1.0 404 Not Found\r\nserver: x\r\n\r\n{\"error\": \"none\"}").unwrap();
        assert_eq!(answer, Answer { status: 404, body: "{\"error\": \"none\"}".into() });
        for wrong in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-OpenSSH\r\n\r\n"] {
            assert!(read_answer(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_token_is_sent_and_an_absent_server_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let client = AdminClient::new(address, Some("the-token".into()), Duration::from_secs(5));
        assert_eq!(client.get("/status").unwrap().body, "hello");
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /status HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer the-token\r\n"), "{request}");

        let error = client.get("/status").unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
