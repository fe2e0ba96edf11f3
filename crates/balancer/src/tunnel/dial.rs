//! Asking a node for a tunnel: connect, send the head of the upgrade, read the head of the answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest head of an answer, as for the nodes' other answers a generous bound.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most headers of an answer.
const HEADERS_MAX: usize = 128;

/// The longest body of a refusal that is passed on; a refusal is a line of JSON or a page.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// A node that answered.
#[derive(Debug)]
pub(crate) struct Dialed {
    /// The connection to it.
    pub(crate) stream: TcpStream,
    /// The status of its answer.
    pub(crate) status: StatusCode,
    /// The headers of its answer.
    pub(crate) headers: HeaderMap,
    /// What came after the head.
    pub(crate) rest: BytesMut,
}

/// A node that did not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// It could not be reached: nothing was asked.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// It went away, or answered nonsense.
    #[error("no answer: {0}")]
    Answer(io::Error),
    /// It was silent.
    #[error("no answer in time")]
    Timeout,
}

/// Connects to a node, sends `head` and reads its answer's head.
pub(crate) async fn ask(
    node: SocketAddr,
    head: &[u8],
    connect_time_max: Duration,
    answer_time_max: Duration,
) -> Result<Dialed, DialError> {
    let stream = match timeout(connect_time_max, TcpStream::connect(node)).await {
        Ok(connected) => connected.map_err(DialError::Connect)?,
        Err(_) => return Err(DialError::Connect(io::ErrorKind::TimedOut.into())),
    };
    // A frame must not wait for the one before it to be acknowledged.
    stream.set_nodelay(true).map_err(DialError::Connect)?;
    match timeout(answer_time_max, exchange(stream, head)).await {
        Ok(answer) => answer.map_err(DialError::Answer),
        Err(_) => Err(DialError::Timeout),
    }
}

async fn exchange(mut stream: TcpStream, head: &[u8]) -> io::Result<Dialed> {
    stream.write_all(head).await?;
    let mut read = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((status, headers, head_bytes)) = parse(&read)? {
            read.advance(head_bytes);
            // 100, 102 and 103 announce an answer; 101 is one.
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            return Ok(Dialed { stream, status, headers, rest: read });
        }
        if read.len() > HEAD_BYTES_MAX {
            return Err(invalid("the head of the answer is too large"));
        }
    }
}

fn parse(read: &[u8]) -> io::Result<Option<(StatusCode, HeaderMap, usize)>> {
    let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut parsed);
    let httparse::Status::Complete(head_bytes) = response.parse(read).map_err(|error| invalid(error.to_string()))?
    else {
        return Ok(None);
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| invalid("the status of the answer is none"))?;
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for header in response.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let value = HeaderValue::from_bytes(header.value).map_err(|error| invalid(error.to_string()))?;
        headers.append(name, value);
    }
    Ok(Some((status, headers, head_bytes)))
}

impl Dialed {
    /// Reads the body of an answer that refuses the tunnel. The connection ends with it.
    pub(crate) async fn read_body(mut self, deadline: Instant) -> Result<BytesMut, DialError> {
        match timeout_at(deadline, self.read_whole_body()).await {
            Ok(body) => body.map_err(DialError::Answer),
            Err(_) => Err(DialError::Timeout),
        }
    }

    async fn read_whole_body(&mut self) -> io::Result<BytesMut> {
        let chunked = self.headers.get(http::header::TRANSFER_ENCODING).is_some();
        let length = self.headers.get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let mut body = std::mem::take(&mut self.rest);
        if matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(BytesMut::new());
        }
        loop {
            if chunked {
                if let Some(whole) = join_chunks(&body)? {
                    return Ok(whole);
                }
            } else if let Some(length) = length.filter(|length| body.len() >= *length) {
                body.truncate(length);
                return Ok(body);
            }
            if body.len() > BODY_BYTES_MAX {
                return Err(invalid("the body of the answer is too large"));
            }
            if self.stream.read_buf(&mut body).await? == 0 {
                // Without a length the end of the connection is the end of the body.
                let ends_here = !chunked && length.is_none();
                return if ends_here { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

/// The body of a chunked message (RFC 9112, section 7.1) without its trailers, once all of it is there.
fn join_chunks(mut rest: &[u8]) -> io::Result<Option<BytesMut>> {
    let mut whole = BytesMut::new();
    loop {
        let parsed = httparse::parse_chunk_size(rest).map_err(|_| invalid("the chunks of the answer are broken"))?;
        let httparse::Status::Complete((line_bytes, size)) = parsed else { return Ok(None) };
        if size == 0 {
            return Ok(Some(whole));
        }
        let size = usize::try_from(size).map_err(|_| invalid("a chunk of the answer is too large"))?;
        let end = line_bytes.saturating_add(size);
        let Some(chunk) = rest.get(line_bytes..end) else { return Ok(None) };
        whole.extend_from_slice(chunk);
        let Some(after) = rest.get(end + 2..) else { return Ok(None) };
        rest = after;
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// What holds for any head that a node answers: it is refused, or has a status and bounded headers, and is the same
/// however much of what follows has come.
#[cfg(any(test, fuzzing))]
pub(crate) fn heads_hold_for(bytes: &[u8]) {
    let Ok(Some((status, headers, head_bytes))) = parse(bytes) else { return };
    assert!(head_bytes <= bytes.len() && headers.len() <= HEADERS_MAX);
    assert_eq!(parse(&bytes[..head_bytes]).expect("the same head"), Some((status, headers, head_bytes)));
    assert!(matches!(parse(&bytes[..head_bytes - 1]), Ok(None)), "a head ends with its last byte");
}

/// What holds for any chunks that a node answers: they are broken, or not all there, or their body is shorter than they
/// and the same however much of what follows has come.
#[cfg(any(test, fuzzing))]
pub(crate) fn chunks_hold_for(bytes: &[u8]) {
    let whole = join_chunks(bytes);
    if let Ok(Some(body)) = &whole {
        assert!(body.len() < bytes.len());
    }
    for cut in 0..bytes.len().min(200) {
        match (join_chunks(&bytes[..cut]), &whole) {
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (Ok(Some(body)), Ok(Some(whole))) => assert_eq!(body, *whole),
            (part, whole) => panic!("{part:?} of {cut} bytes, {whole:?} of all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_testing::hostile;

    #[test]
    fn no_bytes_break_the_head_of_an_answer() {
        hostile::check("answer", heads_hold_for);
    }

    #[test]
    fn no_bytes_break_the_chunks_of_an_answer() {
        hostile::check("chunks", chunks_hold_for);
    }

    #[test]
    fn chunks_are_joined_once_the_last_is_there() {
        let sent = b"4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n";
        for cut in 0..sent.len() {
            assert_eq!(join_chunks(&sent[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(join_chunks(sent).unwrap().unwrap(), "Wikipedia");
        join_chunks(b"zz\r\n").unwrap_err();
    }

    #[test]
    fn a_head_is_parsed_with_all_its_headers() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\r\nearly";
        let (status, headers, bytes) = parse(head).unwrap().unwrap();
        assert_eq!(status, 101);
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(&head[bytes..], b"early");
        assert!(parse(&head[..40]).unwrap().is_none());
        parse(b"no http\r\n\r\n").unwrap_err();
    }
}
