//! HTTP answers in the words of Engine.IO.

use std::time::Duration;

use axum::Json;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ctedge_socketio::PayloadSink;
use ctedge_wire::{Key, KeyedToken, Redirect, headers, read_unreachable};
use serde::Serialize;

use crate::hub::AttachRefusal;

/// When a client may come again that found the node full, stopping, or without its session.
const COME_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// A request that Engine.IO has a number for; its clients know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EngineError {
    UnknownTransport = 0,
    UnknownSid = 1,
    BadHandshakeMethod = 2,
    BadRequest = 3,
    UnsupportedVersion = 5,
}

#[derive(Serialize)]
struct ErrorBody {
    code: u8,
    message: &'static str,
}

impl From<EngineError> for Response {
    fn from(error: EngineError) -> Self {
        let message = match error {
            EngineError::UnknownTransport => "Transport unknown",
            EngineError::UnknownSid => "Session ID unknown",
            EngineError::BadHandshakeMethod => "Bad handshake method",
            EngineError::BadRequest => "Bad request",
            EngineError::UnsupportedVersion => "Unsupported protocol version",
        };
        no_store((StatusCode::BAD_REQUEST, Json(ErrorBody { code: error as u8, message })).into_response())
    }
}

/// The key of a `sid` that this node does not know, if it is another one than the balancer placed the request by: what it
/// names lives elsewhere, and nothing has happened to it here.
pub(super) fn misplaced(sid: &str, routed: Option<&Key>) -> Option<AttachRefusal> {
    let named = KeyedToken::parse(sid)?.key();
    (*routed? != named).then_some(AttachRefusal::Misdirected(named))
}

/// A client that the hub refused before there was a session to tell it in.
pub(super) fn refusal(refusal: &AttachRefusal) -> Response {
    match refusal {
        AttachRefusal::Misdirected(key) => redirect(&Redirect::Key(key.clone())),
        AttachRefusal::Redirect { node, epoch, address } => {
            redirect(&Redirect::Owner { node: node.clone(), epoch: *epoch, address: *address })
        }
        AttachRefusal::Unavailable { retry_after } => unavailable(*retry_after),
        _ => unavailable(COME_AGAIN_AFTER),
    }
}

/// The node is full or stopping.
pub(super) fn unavailable(retry_after: Duration) -> Response {
    let body = Json(ErrorBody { code: 3, message: "This server takes no connections at the moment" });
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
    no_store(response)
}

/// The packets that a poll waited for.
pub(super) fn payload(body: PayloadSink) -> Response {
    let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
    no_store(([(CONTENT_TYPE, plain)], body.into_body()).into_response())
}

/// A POST was taken.
pub(super) fn taken() -> Response {
    // What the stock server says; `text/plain` makes some user agents offer a download.
    no_store(([(CONTENT_TYPE, HeaderValue::from_static("text/html"))], "ok").into_response())
}

/// A body over the bound.
pub(super) fn too_large() -> Response {
    no_store(StatusCode::PAYLOAD_TOO_LARGE.into_response())
}

/// What may be asked here. Whether a page of another origin may ask is judged before.
pub(super) fn options() -> Response {
    (StatusCode::NO_CONTENT, [(ALLOW, HeaderValue::from_static("GET, POST, OPTIONS"))]).into_response()
}

/// The key that the balancer placed the request by.
pub(super) fn routed_key(request: &HeaderMap) -> Option<Key> {
    request.get(headers::KEY)?.to_str().ok().and_then(|key| Key::parse(key).ok())
}

/// The nodes that the balancer could not connect to for this request.
pub(crate) fn unreachable(request: &HeaderMap) -> Vec<String> {
    let listed = request.get(headers::UNREACHABLE).and_then(|nodes| nodes.to_str().ok()).unwrap_or_default();
    read_unreachable(listed).map(str::to_owned).collect()
}

fn redirect(redirect: &Redirect) -> Response {
    let mut response = StatusCode::MISDIRECTED_REQUEST.into_response();
    for (name, value) in redirect.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    no_store(response)
}

/// Says that this node answers as the owner of the key, since `epoch`; 0 where ownership is not shared.
pub(crate) fn owned(mut response: Response, node: &str, epoch: u64) -> Response {
    if epoch > 0
        && let Ok(node) = HeaderValue::from_str(node)
    {
        response.headers_mut().insert(HeaderName::from_static(headers::NODE), node);
        response.headers_mut().insert(HeaderName::from_static(headers::EPOCH), HeaderValue::from(epoch));
    }
    response
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_sid_of_another_key_is_sent_there() {
        let sid = format!("room.{}", "r".repeat(24));
        let named = |sid: &str, routed: Option<&str>| {
            let routed = routed.map(|key| Key::parse(key).unwrap());
            misplaced(sid, routed.as_ref()).map(|refusal| self::refusal(&refusal))
        };
        let response = named(&sid, Some("other")).unwrap();
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(response.headers()[headers::REDIRECT_KEY], "room");
        assert!(named(&sid, Some("room")).is_none());
        assert!(named(&sid, None).is_none());
        assert!(named("noise", Some("other")).is_none());
    }
}
