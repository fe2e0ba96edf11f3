//! Which answer is a download, and when it is complete.
//!
//! A download counts when its client has the answer that holds the last byte of a real artifact. That is a `GET` answered
//! with all of the file, or the last part of one that a client resumes (`Range: bytes=N-`). A client that looks into the end
//! of an archive (`bytes=-N`) or fetches parts from the middle has not downloaded it. Several nodes share the requests of one
//! client, so no node could put the earlier parts together.
//!
//! What a node has handed to its connection may still lie in the buffers of kernels and of the balancer, a megabyte in all,
//! which is more than many clients have. The balancer owns the client's socket and knows what has been acknowledged: it says
//! in its request that it will tell ([`DOWNLOAD`]), and does so when nothing is left. The answer carries all that is to be
//! counted, so that a node keeps no list of what is on its way, and any node of any age can count it.
//!
//! Behind another balancer, a download counts when its last byte has been handed to the connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ctedge_wire::headers::DOWNLOAD;
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::{Deserialize, Serialize};

use crate::ide::Ide;

/// The longest description of a download in a header. A version that is longer stands in no file of a sound mind; its
/// download counts when it has been handed over.
const HEADER_BYTES_MAX: usize = 2048;

/// A client that somebody downloaded whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The editor that it is for.
    pub ide: Ide,
    /// Its version, as the file itself says it.
    pub version: String,
    /// The name of the file.
    pub artifact: String,
}

impl Download {
    /// As it stands in [`DOWNLOAD`], if there is room for it.
    fn to_header(&self) -> Option<HeaderValue> {
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).ok()?);
        HeaderValue::try_from(text).ok().filter(|value| value.len() <= HEADER_BYTES_MAX)
    }

    /// The one that stands in [`DOWNLOAD`].
    pub(super) fn from_header(value: &HeaderValue) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()
    }
}

/// Whether whoever sends a request with these headers tells when its client has the answer.
pub(super) fn is_told(request: &HeaderMap) -> bool {
    request.contains_key(DOWNLOAD)
}

/// Has `download` counted when all of `response` has arrived: by whoever asked if that end tells, or else by `count`.
pub(super) fn count_when_complete(
    mut response: Response,
    download: Download,
    is_told: bool,
    count: impl FnOnce(&Download) + Send + 'static,
) -> Response {
    match download.to_header().filter(|_| is_told) {
        Some(value) => {
            response.headers_mut().insert(DOWNLOAD, value);
            response
        }
        None => when_sent(response, move || count(&download)),
    }
}

/// Whether `response` to a request of `method` with this `Range` header brings the last byte of a download.
pub(super) fn completes(method: &Method, range: Option<&HeaderValue>, response: &Response) -> bool {
    if *method != Method::GET {
        return false;
    }
    match response.status() {
        StatusCode::OK => true,
        StatusCode::PARTIAL_CONTENT => {
            let begins_somewhere = range
                .and_then(|range| range.to_str().ok()?.trim().strip_prefix("bytes="))
                .is_some_and(|range| range.trim_start().starts_with(|first: char| first.is_ascii_digit()));
            begins_somewhere && reaches_the_end(response.headers())
        }
        _ => false,
    }
}

/// `Content-Range: bytes 100-199/200`
fn reaches_the_end(headers: &HeaderMap) -> bool {
    let parts = || {
        let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
        let (range, size) = range.split_once('/')?;
        let (_, last) = range.split_once('-')?;
        Some((last.parse::<u64>().ok()?, size.parse::<u64>().ok()?))
    };
    parts().is_some_and(|(last, size)| last + 1 == size)
}

/// Calls `done` when all of the response's body has been handed to its connection.
fn when_sent(response: Response, done: impl FnOnce() + Send + 'static) -> Response {
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let Some(left) = length.filter(|length| *length > 0) else { return response };
    response.map(|body| Body::new(Counted { body, left, done: Some(Box::new(done)) }))
}

/// A body that notes its end. A client that goes away before it leaves it unread.
struct Counted {
    body: Body,
    left: u64,
    done: Option<Box<dyn FnOnce() + Send>>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.left = self.left.saturating_sub(length as u64);
            if self.left == 0
                && let Some(done) = self.done.take()
            {
                done();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: Method, status: StatusCode, range: &str, content_range: &str, expected: bool) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_str(content_range).unwrap());
        let range = HeaderValue::from_str(range).unwrap();
        assert_eq!(completes(&method, Some(&range), &response), expected, "{method} {status} {range:?}");
    }

    #[test]
    fn a_download_is_complete_with_the_last_byte_of_the_file() {
        let (get, partial) = (Method::GET, StatusCode::PARTIAL_CONTENT);
        check(get.clone(), StatusCode::OK, "", "", true);
        check(get.clone(), partial, "bytes=100-", "bytes 100-199/200", true);
        check(get.clone(), partial, "bytes=100-199", "bytes 100-199/200", true);
        check(get.clone(), partial, "bytes=0-99", "bytes 0-99/200", false);
        check(get.clone(), partial, "bytes=-22", "bytes 178-199/200", false);
        check(get.clone(), StatusCode::NOT_MODIFIED, "", "", false);
        check(get.clone(), StatusCode::RANGE_NOT_SATISFIABLE, "bytes=900-", "bytes */200", false);
        check(Method::HEAD, StatusCode::OK, "", "", false);
    }
}
