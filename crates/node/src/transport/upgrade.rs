//! HTTP to WebSocket, and the raw socket out of the HTTP server's hands.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use crate::connections::Presence;

use super::socket::{Carried, Connection};
use super::stopping::Stopping;

/// A request that may become a WebSocket.
pub(super) struct Upgrade {
    accept_key: HeaderValue,
    on_upgrade: OnUpgrade,
}

impl Upgrade {
    /// The upgrade that the request asks for (RFC 6455, section 4.2.1). `None` for any other request.
    pub(super) fn of(request: &mut Request) -> Option<Self> {
        let headers = request.headers();
        let asks = request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && has_token(headers, &CONNECTION, "upgrade")
            && has_token(headers, &UPGRADE, "websocket")
            && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let accept_key = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY).filter(|_| asks)?.as_bytes());
        let accept_key = HeaderValue::from_str(&accept_key).ok()?;
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
        Some(Self { accept_key, on_upgrade })
    }

    /// Answers 101 and carries the session over the socket once that answer is out.
    pub(super) fn accept(
        self,
        carried: Carried,
        message_bytes_max: usize,
        stopping: Arc<Stopping>,
        presence: Presence,
    ) -> Response {
        let on_upgrade = self.on_upgrade;
        tokio::spawn(async move {
            let _presence = presence;
            let upgraded = match on_upgrade.await {
                Ok(upgraded) => upgraded,
                // The client went away before the answer was out; dropping what is carried tells the session.
                Err(error) => return tracing::debug!(%error, "a WebSocket was given up before it began"),
            };
            let Some((stream, early)) = take_socket(upgraded) else {
                return tracing::error!("the HTTP server serves something else than TCP sockets");
            };
            Connection::new(stream, early, carried, message_bytes_max, stopping).await;
        });
        let headers = [
            (CONNECTION, HeaderValue::from_static("upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_ACCEPT, self.accept_key),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
}

/// The raw socket, and what the HTTP server had read past the request. That is copied: even empty, it would keep the
/// server's buffer of several kilobytes for as long as the connection lives.
fn take_socket(upgraded: Upgraded) -> Option<(TcpStream, Vec<u8>)> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf.to_vec()))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}
