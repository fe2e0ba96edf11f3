//! What the balancer answers itself: clear to the client that asked, an API client or a person with a browser.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pingora::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::timeout;

/// When a client should ask again after a refusal that passes: a node restarts in about this time.
pub(crate) const RETRY_AFTER_SECONDS: &str = "2";

/// How long, and how much, is read of a body that is refused: about what is on its way when the refusal is written.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// An answer of the balancer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No node can take the request.
    NoNode,
    /// The balancer ends, and lets nobody new in.
    Stopping,
    /// The node of this session cannot be reached, and what was asked must not be repeated elsewhere.
    NodeFailed,
    /// The node did not answer in time.
    NodeTimeout,
    /// Every tunnel is taken.
    TooManyTunnels,
    /// Nothing is served at this path.
    NotFound,
    /// Nothing is served by this method.
    MethodNotAllowed,
    /// The request cannot be understood.
    Malformed,
    /// The head is over its limit.
    HeadTooLarge,
    /// The body is over its limit.
    BodyTooLarge,
    /// The body did not come in time.
    BodyTimeout,
    /// Something of our own is broken.
    Internal,
}

impl Refusal {
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::NoNode | Self::Stopping | Self::TooManyTunnels => 503,
            Self::NodeFailed => 502,
            Self::NodeTimeout => 504,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Malformed => 400,
            Self::HeadTooLarge => 431,
            Self::BodyTooLarge => 413,
            Self::BodyTimeout => 408,
            Self::Internal => 500,
        }
    }

    /// The `code` of the protocol's `Info`, stable for programs.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::NoNode => "NoNodeAvailable",
            Self::Stopping => "Stopping",
            Self::NodeFailed => "NodeFailed",
            Self::NodeTimeout => "NodeTimeout",
            Self::TooManyTunnels => "TooManyConnections",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::Malformed => "MalformedRequest",
            Self::HeadTooLarge => "HeaderTooLarge",
            Self::BodyTooLarge => "BodyTooLarge",
            Self::BodyTimeout => "BodyTimeout",
            Self::Internal => "InternalError",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::NoNode => "No server is available for this session. Please try again in a moment.",
            Self::Stopping => "This server is about to be replaced. Please try again in a moment.",
            Self::NodeFailed => "The server of this session did not answer. Please try again.",
            Self::NodeTimeout => "The server of this session did not answer in time. Please try again.",
            Self::TooManyTunnels => "The server has no room for another connection. Please try again later.",
            Self::NotFound => "There is nothing at this address.",
            Self::MethodNotAllowed => "This method is not served.",
            Self::Malformed => "The request could not be understood.",
            Self::HeadTooLarge => "The header of the request is too large.",
            Self::BodyTooLarge => "The body of the request is too large.",
            Self::BodyTimeout => "The body of the request did not arrive in time.",
            Self::Internal => "Something went wrong on the server.",
        }
    }

    /// Whether asking again may help.
    fn passes(self) -> bool {
        matches!(self.status(), 502..=504)
    }

    /// The body and its content type for a client with these request headers.
    pub(crate) fn body(self, request: &HeaderMap) -> (&'static str, Bytes) {
        if wants_page(request) {
            ("text/html; charset=utf-8", Bytes::from(page(self)))
        } else {
            let info = serde_json::json!({ "code": self.code(), "params": [], "message": self.message() });
            ("application/json", Bytes::from(info.to_string()))
        }
    }
}

/// Whether a person looks at the answer. Programs that accept anything get JSON.
fn wants_page(request: &HeaderMap) -> bool {
    let accepts = request.get_all(header::ACCEPT);
    accepts.iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}

fn page(refusal: Refusal) -> String {
    let status = refusal.status();
    let message = refusal.message();
    // The page reloads itself where waiting helps, so that whoever opened a link too early gets in.
    let refresh = if refusal.passes() {
        format!("<meta http-equiv=\"refresh\" content=\"{RETRY_AFTER_SECONDS}\">")
    } else {
        String::new()
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status}</title>{refresh}\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem;color:#222}}\
         @media(prefers-color-scheme:dark){{body{{background:#1e1e1e;color:#ddd}}}}</style></head>\
         <body><h1>{status}</h1><p>{message}</p></body></html>\n"
    )
}

/// Writes a refusal. The connection ends after it when the request's body has not been read to its end.
pub(crate) async fn refuse(session: &mut Session, refusal: Refusal) -> Result<()> {
    let (content_type, body) = refusal.body(&session.req_header().headers);
    let mut extra = Vec::new();
    if refusal.passes() {
        extra.push((header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS)));
    }
    respond(session, refusal.status(), content_type, body, extra).await?;
    linger(session).await;
    Ok(())
}

/// Reads on for a while what the client still sends. Closing a socket with unread bytes resets it, and the client
/// would never see why.
async fn linger(session: &mut Session) {
    let awaits_permission = session.req_header().headers.contains_key(header::EXPECT);
    if awaits_permission || session.as_downstream_mut().is_body_done() {
        return;
    }
    let read_on = async {
        let mut bytes = 0;
        while let Ok(Some(more)) = session.as_downstream_mut().read_request_body().await {
            bytes += more.len();
            if bytes > LINGER_BYTES_MAX {
                break;
            }
        }
    };
    // Whoever sends for longer than this does not listen.
    let _ = timeout(LINGER_TIME_MAX, read_on).await;
}

/// Writes an answer of our own.
pub(crate) async fn respond(
    session: &mut Session,
    status: u16,
    content_type: &'static str,
    body: Bytes,
    extra: Vec<(header::HeaderName, HeaderValue)>,
) -> Result<()> {
    let mut answer = ResponseHeader::build_no_case(status, Some(8))?;
    answer.insert_header(header::CONTENT_TYPE, content_type)?;
    answer.insert_header(header::CONTENT_LENGTH, body.len())?;
    answer.insert_header(header::CACHE_CONTROL, "no-store")?;
    for (name, value) in extra {
        answer.insert_header(name, value)?;
    }
    let is_head = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(answer), is_head).await?;
    if !is_head {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
