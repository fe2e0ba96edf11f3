//! One request over one connection, and its answer.
//!
//! Every request has a connection of its own: a balancer that keeps a client's connection at one node would look sticky
//! otherwise.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ctedge_doctor::facts::{Answer, Carrier, ClockFact};
use ctedge_wire::headers::KEY;
use serde_json::Value;

use super::endpoint::{Endpoint, Stream};
use super::tls::unix_now;

/// Nothing that is asked here is longer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// More headers than any proxy adds.
const HEADERS_MAX: usize = 128;

/// A client: where it goes, and what it carries.
#[derive(Clone)]
pub(super) struct Client<'e> {
    pub(super) endpoint: &'e Endpoint,
    /// Header lines of every request.
    lines: String,
}

impl<'e> Client<'e> {
    /// A client without a key.
    pub(super) fn new(endpoint: &'e Endpoint) -> Self {
        Self { endpoint, lines: String::new() }
    }

    /// A client that carries `key` in this way.
    pub(super) fn carrying(endpoint: &'e Endpoint, carrier: Carrier, key: &str) -> Self {
        match carrier {
            Carrier::Header => Self::new(endpoint).with(KEY, key),
            Carrier::Cookie => Self::new(endpoint).with("Cookie", &format!("{KEY}={key}")),
        }
    }

    /// The same with one more header.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        Self { endpoint: self.endpoint, lines: format!("{}{name}: {value}\r\n", self.lines) }
    }

    /// The same with another value of a header that it has.
    pub(super) fn instead(&self, name: &str, value: &str) -> Self {
        let others = self.lines.split_inclusive("\r\n").filter(|line| !line.starts_with(&format!("{name}: ")));
        Self { endpoint: self.endpoint, lines: others.collect() }.with(name, value)
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Response> {
        self.ask("GET", path, None)
    }

    /// Posts JSON or text.
    pub(super) fn post(&self, path: &str, body: &str) -> anyhow::Result<Response> {
        self.ask("POST", path, Some(body))
    }

    /// Asks to upgrade to a WebSocket. On 101 the connection is given back with what came behind the answer.
    pub(super) fn upgrade(&self, path: &str) -> anyhow::Result<Result<(Stream, Vec<u8>), Response>> {
        let mut stream = self.endpoint.connect()?;
        let head = format!(
            "{}{}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.endpoint.request_lines("GET", path),
            self.lines
        );
        let began = Instant::now();
        stream.write_all(head.as_bytes()).context("cannot send")?;
        let mut received = Vec::new();
        let mut response = loop {
            if let Some(response) = Response::head(&received)? {
                break response;
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).context("no answer")? {
                0 => bail!("the connection was closed before an answer"),
                length => received.extend_from_slice(&chunk[..length]),
            }
            if received.len() as u64 > ANSWER_BYTES_MAX {
                bail!("the answer has no end");
            }
        };
        if response.status == 101 {
            return Ok(Ok((stream, std::mem::take(&mut response.body))));
        }
        // What came with the head is enough of a body to know whose it is; the connection may stay open for long.
        response.took = began.elapsed();
        Ok(Err(response))
    }

    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<Response> {
        let mut stream = self.endpoint.connect()?;
        let mut request = format!("{}{}Connection: close\r\n", self.endpoint.request_lines(method, path), self.lines);
        if let Some(body) = body {
            let kind = if body.starts_with('{') { "application/json" } else { "text/plain;charset=UTF-8" };
            request.push_str(&format!("Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        } else {
            request.push_str("\r\n");
        }
        let began = Instant::now();
        stream.write_all(request.as_bytes()).context("cannot send")?;
        stream.flush().context("cannot send")?;
        let mut bytes = Vec::new();
        let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        let took = began.elapsed();
        // Many servers end a TLS connection without saying so; whether the answer is whole shows in its length.
        match (read, Response::head(&bytes)?) {
            (_, Some(mut response)) if response.is_whole() => {
                response.decode();
                response.took = took;
                Ok(response)
            }
            (Err(error), _) => Err(error).context("no answer"),
            (Ok(_), _) if bytes.is_empty() => bail!("the connection was closed before an answer"),
            (Ok(_), _) => bail!("the connection was closed within the answer"),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    took: Duration,
}

impl Response {
    /// The answer whose head is at the begin of `bytes`; `None` while it is not whole.
    fn head(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = head.parse(bytes).context("the answer is not HTTP/1.1")? else {
            return Ok(None);
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = head.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value)));
        let status = head.code.unwrap_or_default();
        let (headers, body) = (headers.collect(), bytes[length..].to_vec());
        Ok(Some(Self { status, headers, body, took: Duration::ZERO }))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
    }

    fn is_whole(&self) -> bool {
        match self.header("content-length").and_then(|length| length.trim().parse().ok()) {
            _ if self.is_chunked() => self.body.ends_with(b"0\r\n\r\n"),
            Some(length) => self.body.len() >= length,
            None => true,
        }
    }

    /// Takes the chunks of a body together.
    fn decode(&mut self) {
        if !self.is_chunked() {
            return;
        }
        let (mut rest, mut body) = (self.body.as_slice(), Vec::new());
        while let Ok(httparse::Status::Complete((head, length))) = httparse::parse_chunk_size(rest) {
            let end = usize::try_from(length).ok().and_then(|length| length.checked_add(head));
            let Some(chunk) = end.and_then(|end| rest.get(head..end)).filter(|chunk| !chunk.is_empty()) else { break };
            body.extend_from_slice(chunk);
            rest = rest.get(head + chunk.len() + 2..).unwrap_or_default();
        }
        self.body = body;
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What matters of it to a finding.
    pub(super) fn answer(&self, is_ours: bool) -> Answer {
        let body = self.json();
        let word = |name: &str| match &body[name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Answer {
            status: self.status,
            server: self.header("server").map(str::to_owned),
            code: word("code"),
            message: word("message").map(|message| message.trim_end_matches('.').to_owned()),
            location: self.header("location").map(str::to_owned),
            is_ours,
        }
    }

    /// What its `Date` says of the clock of whoever gave it.
    pub(super) fn clock(&self, whose: &str) -> Option<ClockFact> {
        let theirs = httpdate::parse_http_date(self.header("date")?).ok()?;
        let theirs = theirs.duration_since(std::time::UNIX_EPOCH).ok()?;
        // The header says whole seconds of a moment within the answer's time.
        let ours = unix_now().checked_sub(self.took / 2)?;
        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let uncertain_ms = 500 + u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX) / 2;
        Some(ClockFact {
            whose: whose.to_owned(),
            ahead_ms: milliseconds(theirs) + 500 - milliseconds(ours),
            uncertain_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let mut response = Response::head(text.as_bytes()).unwrap().filter(Response::is_whole)?;
        response.decode();
        Some(response.text())
    }

    #[test]
    fn a_body_is_whole_by_its_length_or_its_chunks() {
        assert_eq!(read("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab").as_deref(), Some("ab"));
        assert_eq!(read("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"), None);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n";
        assert_eq!(read(&format!("{chunked}0\r\n\r\n")).as_deref(), Some("abc"));
        assert_eq!(read(chunked), None);
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nall").as_deref(), Some("all"));
        assert_eq!(read("HTTP/1.1 200 OK\r\n"), None);
        assert!(Response::head(b"SSH-2.0-OpenSSH\r\n").is_err());
    }

    #[test]
    fn an_answer_says_its_code_and_message() {
        let text = "HTTP/1.1 403 Forbidden\r\nServer: x\r\n\r\n{\"code\":\"LicenseExpired\",\"params\":[],\"message\":\"Over.\"}";
        let answer = Response::head(text.as_bytes()).unwrap().unwrap().answer(false);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!((answer.server, answer.code, answer.message), (text("x"), text("LicenseExpired"), text("Over")));
    }
}
