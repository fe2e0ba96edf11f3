//! One bounded request to another server, over TLS where its URL says so: a registry, a sign-on provider.
//!
//! Certificates are held against this machine's roots (`SSL_CERT_FILE` names others). An answer has a largest size and
//! a latest time, since the server at the other end is a stranger's.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The longest answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Asks other servers.
#[derive(Debug, Clone)]
pub struct HttpsClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What a server answered, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Bytes,
}

/// Why there is no answer. None of these holds more of the request than its server.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// Nobody answered, or with the wrong certificate.
    #[error("{0} cannot be asked: {1}")]
    Unreachable(String, String),
    /// It took too long.
    #[error("{0} did not answer within {1:?}")]
    Slow(String, Duration),
    /// The answer ended early, or is longer than it may be.
    #[error("{0} answered what cannot be read: {1}")]
    Unreadable(String, String),
}

impl HttpsClient {
    /// A client that trusts the roots of this machine; an error when there are none.
    pub fn new() -> io::Result<Self> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)?;
        Ok(Self(Client::builder(TokioExecutor::new()).build(builder.https_or_http().enable_http1().build())))
    }

    /// Sends `request`, whose target is a whole URL, and reads the answer within `time_max`.
    pub async fn send(&self, mut request: Request<Full<Bytes>>, time_max: Duration) -> Result<Answer, HttpsError> {
        let server = origin(request.uri()).unwrap_or_else(|| "the server".to_owned());
        let agent = HeaderValue::from_static(concat!("ctedge/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let exchange = async {
            let response = self.0.request(request).await;
            let response = response.map_err(|error| HttpsError::Unreachable(server.clone(), causes(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| HttpsError::Unreadable(server.clone(), error.to_string()))?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        let exchanged = tokio::time::timeout(time_max, exchange).await;
        exchanged.unwrap_or_else(|_| Err(HttpsError::Slow(server.clone(), time_max)))
    }
}

/// Scheme, host and port of a whole URL.
#[must_use]
pub fn origin_of(url: &str) -> Option<String> {
    origin(&url.parse().ok()?)
}

fn origin(url: &Uri) -> Option<String> {
    Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
}

/// The error with what is behind it: the first alone says no more than "client error (Connect)".
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Some repeat what is behind them.
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
