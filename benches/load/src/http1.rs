//! An HTTP/1.1 client connection that does no more than a load tool needs: requests are bytes that were made once, heads are
//! parsed in place, bodies are counted and only kept on demand.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stream::Stream;

/// The most headers of an answer.
const HEADERS_MAX: usize = 64;
/// The longest head of an answer: what common servers allow for a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// One read takes up to this much; a 64 KiB body needs few of them.
const READ_BYTES: usize = 64 * 1024;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What a head said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Bytes of the body.
    pub(crate) body_bytes: u64,
    /// Whether the connection may carry another request.
    pub(crate) reusable: bool,
}

/// An answer to a request to upgrade that is not 101.
#[derive(Debug, thiserror::Error)]
#[error("the upgrade was answered with {status} {body}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    body: String,
}

/// A connection to a server.
pub(crate) struct Http1 {
    stream: Stream,
    /// Received and not yet consumed: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    /// The header to look for in answers, lower-case.
    node_header: String,
    /// Its value in the last answer; empty without one.
    pub(crate) node: String,
}

impl Http1 {
    pub(crate) fn new(stream: Stream, node_header: &str) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, node_header: node_header.to_owned(), node: String::new() }
    }

    /// Sends a whole request and reads the whole answer. The body goes to `body` when one is given.
    pub(crate) async fn exchange(&mut self, request: &[u8], body: Option<&mut Vec<u8>>) -> Result<Answer> {
        self.stream.write_all(request).await.context("cannot send the request")?;
        self.stream.flush().await?;
        let (status, framing, mut reusable) = self.read_head().await?;
        let body_bytes = match framing {
            Framing::Length(length) => self.read_length(length, body).await?,
            Framing::Chunked => self.read_chunks(body).await?,
            Framing::UntilClose => {
                reusable = false;
                self.read_to_end(body).await?
            }
        };
        Ok(Answer { status, body_bytes, reusable })
    }

    /// Sends a request to upgrade. On 101 the stream is given back with the bytes that came after the head.
    pub(crate) async fn upgrade(mut self, request: &[u8]) -> Result<(Stream, Vec<u8>, String)> {
        self.stream.write_all(request).await.context("cannot send the request")?;
        self.stream.flush().await?;
        let (status, framing, _) = self.read_head().await?;
        if status != 101 {
            let mut body = Vec::new();
            if let Framing::Length(length @ 1..=4096) = framing {
                self.read_length(length, Some(&mut body)).await?;
            }
            return Err(Refused { status, body: String::from_utf8_lossy(&body).into_owned() }.into());
        }
        self.buffer.drain(..self.start);
        Ok((self.stream, self.buffer, self.node))
    }

    async fn read_head(&mut self) -> Result<(u16, Framing, bool)> {
        self.node.clear();
        loop {
            if let Some(head) = self.parse_head()? {
                return Ok(head);
            }
            ensure!(self.buffer.len() - self.start <= HEAD_BYTES_MAX, "the head of the answer has no end");
            ensure!(self.fill().await? > 0, "the connection was closed before the answer");
        }
    }

    /// `None` when more bytes are needed. Interim answers (1xx but 101) are skipped.
    fn parse_head(&mut self) -> Result<Option<(u16, Framing, bool)>> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(head_bytes) =
                response.parse(&self.buffer[self.start..]).context("the answer is not HTTP/1.1")?
            else {
                return Ok(None);
            };
            let status = response.code.unwrap_or_default();
            let mut framing = Framing::UntilClose;
            let mut reusable = response.version == Some(1);
            for header in &*response.headers {
                let value = header.value.trim_ascii();
                if header.name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked {
                    let text = std::str::from_utf8(value)?;
                    framing = Framing::Length(text.parse().context("the content-length is no number")?);
                } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                    framing = Framing::Chunked;
                } else if header.name.eq_ignore_ascii_case("connection") {
                    reusable &= !value.eq_ignore_ascii_case(b"close");
                } else if header.name.eq_ignore_ascii_case(&self.node_header) {
                    self.node.push_str(&String::from_utf8_lossy(value));
                }
            }
            self.start += head_bytes;
            match status {
                101 | 204 | 304 => return Ok(Some((status, Framing::Length(0), reusable))),
                100..=199 => {}
                _ => return Ok(Some((status, framing, reusable))),
            }
        }
    }

    async fn read_length(&mut self, length: u64, mut sink: Option<&mut Vec<u8>>) -> Result<u64> {
        let mut missing = length;
        loop {
            let have = (self.buffer.len() - self.start).min(usize::try_from(missing).unwrap_or(usize::MAX));
            if let Some(sink) = &mut sink {
                sink.extend_from_slice(&self.buffer[self.start..self.start + have]);
            }
            self.start += have;
            missing -= have as u64;
            if missing == 0 {
                return Ok(length);
            }
            ensure!(self.fill().await? > 0, "the connection was closed {missing} bytes before the end of the body");
        }
    }

    async fn read_chunks(&mut self, mut sink: Option<&mut Vec<u8>>) -> Result<u64> {
        let mut total = 0;
        loop {
            let (head_bytes, length) = loop {
                match httparse::parse_chunk_size(&self.buffer[self.start..]) {
                    Ok(httparse::Status::Complete(chunk)) => break chunk,
                    Ok(httparse::Status::Partial) => ensure!(self.fill().await? > 0, "the body ends within a chunk"),
                    Err(_) => bail!("the answer's chunks are malformed"),
                }
            };
            self.start += head_bytes;
            total += self.read_length(length, sink.as_deref_mut()).await?;
            // The line end after the chunk; trailers are not expected by anything that is measured here.
            self.read_length(2, None).await?;
            if length == 0 {
                return Ok(total);
            }
        }
    }

    async fn read_to_end(&mut self, mut sink: Option<&mut Vec<u8>>) -> Result<u64> {
        let mut total = 0;
        loop {
            let have = self.buffer.len() - self.start;
            total += self.read_length(have as u64, sink.as_deref_mut()).await?;
            if self.fill().await? == 0 {
                return Ok(total);
            }
        }
    }

    async fn fill(&mut self) -> Result<usize> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.buffer).await?)
    }
}
