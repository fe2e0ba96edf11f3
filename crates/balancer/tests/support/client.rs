//! A client that says exactly what a test wants and sees exactly what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// One connection.
pub struct Client {
    wire: Box<dyn Wire>,
    read: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of the stickiness cookie that this sets.
    pub fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")?.strip_prefix("ctstickiness=")?.split(';').next()
    }

    pub fn node(&self) -> &str {
        self.header("x-ctedge-node").unwrap_or_else(|| panic!("no node: {self:?}"))
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub fn over(wire: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { wire: Box::new(wire), read: Vec::new() }
    }

    pub async fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_request(method, path, headers, body).await.unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    pub async fn try_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str("Host: edge.test\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat()).await;
        self.answer().await
    }

    /// Asks for a WebSocket; what the client says right after it comes in the same packet.
    pub async fn upgrade(&mut self, path: &str, headers: &[(&str, &str)], early: &[u8]) -> Answer {
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: edge.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), early].concat()).await;
        self.answer().await.expect("an answer to the upgrade")
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.wire.write_all(bytes)).await.expect("the other side reads").ok();
        timeout(PATIENCE, self.wire.flush()).await.expect("the other side reads").ok();
    }

    /// Ends this direction, and listens on.
    pub async fn end(&mut self) {
        self.wire.shutdown().await.unwrap();
    }

    /// The next answer, or `None` if the connection ends before one.
    pub async fn answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.read_more().await == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..head_end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        let mut answer = Answer { status, headers: headers.collect(), body: Vec::new() };
        if status != 101 {
            let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            answer.body = self.exactly(length).await;
        }
        Some(answer)
    }

    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert_ne!(self.read_more().await, 0, "the connection ended after {:?}", self.read);
        }
        self.read.drain(..length).collect()
    }

    /// Whether something comes within `time`, the end included.
    pub async fn has_more(&mut self, time: Duration) -> bool {
        timeout(time, self.wire.read_buf(&mut self.read)).await.is_ok()
    }

    /// Everything up to the end of the other direction.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.read_more().await > 0 {}
        std::mem::take(&mut self.read)
    }

    async fn read_more(&mut self) -> usize {
        // A connection that was reset has ended as well.
        timeout(PATIENCE, self.wire.read_buf(&mut self.read)).await.expect("something comes").unwrap_or(0)
    }
}
