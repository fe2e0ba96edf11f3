//! What the first request of a session says: who comes, with which token.
//!
//! IDE clients send headers. A browser cannot send any on a WebSocket: one that starts with polling sends them there,
//! and one that does not names the same fields in the query or in the `auth` of its Socket.IO CONNECT.

use axum::http::{HeaderMap, Uri, header};
use ctedge_wire::{Key, KeyedToken};
use serde_json::{Map, Value};

use super::answer;
use crate::hub::{Handshake, Hub};

const TOKEN: &str = "x-oct-jwt";
const PUBLIC_KEY: &str = "x-oct-public-key";
const CLIENT: &str = "x-oct-client";
const COMPRESSION: &str = "x-oct-compression";

/// The cookie of clients that keep their token in one.
const TOKEN_COOKIE: &str = "oct-jwt";

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        axum::extract::Query::try_from_uri(uri)
            .map_or_else(|_| Self::default(), |axum::extract::Query(query)| Self(query))
    }

    pub(super) fn engine_version(&self) -> Option<&str> {
        self.find("EIO")
    }

    pub(super) fn transport(&self) -> Option<&str> {
        self.find("transport")
    }

    pub(super) fn sid(&self) -> Option<&str> {
        self.find("sid")
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What a client said of itself so far.
#[derive(Debug, Clone, Default)]
pub(super) struct ClientHello {
    routed_key: Option<Key>,
    /// The nodes that the balancer could not connect to for this request.
    unreachable: Vec<String>,
    token: Option<String>,
    token_cookie: Option<String>,
    public_key: Option<String>,
    client: Option<String>,
    compression: Option<String>,
}

impl ClientHello {
    pub(super) fn of(headers: &HeaderMap, query: &Query) -> Self {
        let field = |name: &str| {
            let header = headers.get(name).and_then(|value| value.to_str().ok());
            header.or_else(|| query.find(name)).map(str::to_owned)
        };
        Self {
            routed_key: answer::routed_key(headers),
            unreachable: answer::unreachable(headers),
            token: field(TOKEN),
            token_cookie: cookie(headers, TOKEN_COOKIE),
            public_key: field(PUBLIC_KEY),
            client: field(CLIENT),
            compression: field(COMPRESSION),
        }
    }

    /// Adds what the CONNECT packet says, where nothing was said before.
    pub(super) fn add(&mut self, auth: &Map<String, Value>) {
        let field = |name: &str| auth.get(name).and_then(Value::as_str).map(str::to_owned);
        self.token = self.token.take().or_else(|| field(TOKEN)).or_else(|| self.token_cookie.take());
        self.public_key = self.public_key.take().or_else(|| field(PUBLIC_KEY));
        self.client = self.client.take().or_else(|| field(CLIENT));
        self.compression = self.compression.take().or_else(|| field(COMPRESSION));
    }

    /// The key that the balancer placed the request by.
    pub(super) fn routed_key(&self) -> Option<&Key> {
        self.routed_key.as_ref()
    }

    /// The nodes that the balancer could not connect to for this request.
    pub(super) fn unreachable(&self) -> &[String] {
        &self.unreachable
    }

    /// Whether the client has shown the token of a host.
    pub(super) fn is_host(&self, hub: &Hub) -> bool {
        self.token.as_deref().is_some_and(|token| hub.is_host(token))
    }

    /// The room token and the handshake, if the client has shown both.
    pub(super) fn complete(&self) -> Option<(&str, Handshake)> {
        let token = self.token.as_deref()?;
        let public_key = self.public_key.as_deref()?;
        Some((token, Handshake::new(public_key, self.client.as_deref(), self.compression.as_deref())))
    }

    /// A fresh `sid` on the key of the request, so that the session's later requests find this node again.
    pub(super) fn mint_sid(&self, hub: &Hub) -> KeyedToken {
        let key = self.routed_key.clone().unwrap_or_else(|| Key::mint(&hub.random()));
        KeyedToken::mint(&key, &hub.random())
    }
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn hello(headers: &[(&'static str, &'static str)], uri: &str) -> ClientHello {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        ClientHello::of(&headers, &Query::of(&uri.parse().unwrap()))
    }

    #[test]
    fn fields_come_from_headers_before_the_query() {
        let hello = hello(
            &[("x-oct-jwt", "from-header"), ("ctstickiness", "room"), ("x-oct-compression", "gzip, none")],
            "/socket.io/?x-oct-jwt=from-query&x-oct-public-key=a%2Bb",
        );
        let (token, handshake) = hello.complete().unwrap();
        assert_eq!((token, handshake.public_key.as_str()), ("from-header", "a+b"));
        assert_eq!((handshake.client.as_str(), handshake.compression), ("unknown", vec!["gzip".into(), "none".into()]));
        assert_eq!(hello.routed_key(), Some(&Key::parse("room").unwrap()));
    }

    #[test]
    fn a_browser_may_say_it_in_the_connect_instead() {
        let mut hello = hello(&[("cookie", "a=b; oct-jwt=from-cookie")], "/socket.io/");
        assert!(hello.complete().is_none());
        let auth = serde_json::json!({"x-oct-jwt": "from-auth", "x-oct-public-key": "key", "x-oct-client": "page"});
        hello.add(auth.as_object().unwrap());
        let (token, handshake) = hello.complete().unwrap();
        assert_eq!((token, handshake.client.as_str()), ("from-auth", "page"));
        assert_eq!(handshake.compression, ["none"]);
    }

    #[test]
    fn a_cookie_is_the_last_resort() {
        let mut hello = hello(&[("cookie", "a=b; oct-jwt=from-cookie"), ("x-oct-public-key", "key")], "/socket.io/");
        assert!(hello.complete().is_none());
        hello.add(&Map::new());
        assert_eq!(hello.complete().unwrap().0, "from-cookie");
    }
}
