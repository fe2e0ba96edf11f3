//! A request on its way to a node: what is taken out of it, what is told to the node, and the key that it carries.

use std::cell::Cell;

use bytes::{BufMut, BytesMut};
use ctedge_routing::{Finding, KeyFinder, RequestView};
use ctedge_wire::{Key, Random, headers};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static(headers::REQUEST_ID);
pub(crate) const KEY: HeaderName = HeaderName::from_static(headers::KEY);

/// Headers that belong to one connection (RFC 9110, section 7.6.1, and what is older), apart from those that frame the
/// body: Pingora needs them to read it, and frames anew.
const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
];

/// The longest request id that is taken over from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The path without the public URL's prefix, or `None` if it lies outside of it.
pub(crate) fn below_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    if rest.is_empty() {
        return Some("/");
    }
    rest.starts_with('/').then_some(rest)
}

/// The request target for the node: the path without the prefix, and the query.
pub(crate) fn target_below_prefix(uri: &Uri, prefix: &str) -> Option<Uri> {
    let path = below_prefix(uri.path(), prefix)?;
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// Finds the key of a request whose path lies below the prefix as `path`.
pub(crate) fn find_key(finder: &KeyFinder, parts: &Parts, path: &str) -> Finding {
    // Two headers hold any cookies a browser sends over HTTP/1.1; HTTP/2 may split them further.
    let cookies: Vec<&str> =
        parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    finder.find(&RequestView {
        method: parts.method.as_str(),
        path,
        query: parts.uri.query(),
        header: &|name| parts.headers.get(name).and_then(|value| value.to_str().ok()),
        cookies: &cookies,
    })
}

/// Whether a header is between balancer and nodes alone: clients neither send it nor get it.
pub(crate) fn is_internal(name: &HeaderName) -> bool {
    name.as_str().starts_with(headers::INTERNAL_PREFIX)
}

/// The internal ones of these headers.
pub(crate) fn internal_headers(headers: &HeaderMap) -> Vec<HeaderName> {
    // Few messages have one, and an empty list costs nothing.
    headers.keys().filter(|name| is_internal(name)).cloned().collect()
}

/// Takes out what the outside must not say to a node.
pub(crate) fn remove_foreign(headers: &mut HeaderMap) {
    for name in internal_headers(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// HTTP/2 may split the cookies into several headers, which HTTP/1.1 does not know (RFC 9113, section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = BytesMut::from(first.as_bytes());
    for cookie in std::iter::once(second).chain(cookies) {
        joined.put_slice(b"; ");
        joined.put_slice(cookie.as_bytes());
    }
    // Joining sound values gives a sound value.
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Gives the request its one id: that of a trusted proxy, or a fresh one.
pub(crate) fn identify(headers: &mut HeaderMap, is_trusted: bool) {
    let is_sound = |id: &HeaderValue| {
        let id = id.as_bytes();
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic)
    };
    if !is_trusted || !headers.get(REQUEST_ID).is_some_and(is_sound) {
        headers.insert(REQUEST_ID, fresh_request_id());
    }
}

/// Whether the client asks for a WebSocket over HTTP/1.1 (RFC 6455, section 4.2.1). Other upgrades are not passed on.
pub(crate) fn wants_websocket(parts: &Parts) -> bool {
    let says = |name: HeaderName, word: &str| {
        let values = parts.headers.get_all(name);
        values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && says(header::UPGRADE, "websocket")
        && says(header::CONNECTION, "upgrade")
}

/// The epoch of which a node says that it owns the key since then. Other servers say no such thing.
pub(crate) fn epoch_of(answer: &HeaderMap) -> Option<u64> {
    answer.get(headers::EPOCH)?.to_str().ok()?.parse().ok()
}

/// Whether a request may be repeated when nobody knows what became of it (RFC 9110, section 9.2.2).
pub(crate) fn may_be_repeated(method: &Method) -> bool {
    method.is_idempotent()
}

/// Random bytes of the operating system, for what must not be guessed.
///
/// # Panics
///
/// When the operating system has no randomness: nothing is safe then.
pub(crate) fn random() -> Random {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    random
}

/// A fresh key.
pub(crate) fn mint_key() -> Key {
    Key::mint(&random())
}

/// Unique, not secret: a random start for each thread, counted up.
fn fresh_request_id() -> HeaderValue {
    thread_local! {
        static NEXT: Cell<Option<u128>> = const { Cell::new(None) };
    }
    let id = NEXT.get().unwrap_or_else(|| {
        let random = random();
        u128::from_le_bytes(std::array::from_fn(|index| random[index]))
    });
    NEXT.set(Some(id.wrapping_add(1)));
    let mut text = [0; 32];
    for (index, digit) in text.iter_mut().enumerate() {
        let nibble = (id >> (124 - 4 * index)) as usize & 0xF;
        *digit = b"0123456789abcdef"[nibble];
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_removed_at_a_slash_only() {
        assert_eq!(below_prefix("/edge/api", "/edge"), Some("/api"));
        assert_eq!(below_prefix("/edge", "/edge"), Some("/"));
        assert_eq!(below_prefix("/edges/api", "/edge"), None);
        assert_eq!(below_prefix("/api", "/edge"), None);
        assert_eq!(below_prefix("/api", ""), Some("/api"));
        assert_eq!(below_prefix("*", ""), None);
        let target =
            |uri: &'static str| target_below_prefix(&Uri::from_static(uri), "/edge").map(|uri| uri.to_string());
        assert_eq!(target("/edge/a?b=/edge").as_deref(), Some("/a?b=/edge"));
        assert_eq!(target("https://host/edge?x").as_deref(), Some("https://host/?x"));
    }

    #[test]
    fn internal_and_hop_by_hop_headers_stay_outside() {
        let mut headers = HeaderMap::new();
        for name in ["x-ctedge-control", "x-ctedge-anything", "keep-alive", "te", "accept", "x-ctedg"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        remove_foreign(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-ctedg"]);
    }

    #[test]
    fn split_cookies_are_joined() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2; c=3", "d=4"] {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn a_request_id_is_kept_only_from_a_trusted_proxy() {
        let check = |given: &'static str, is_trusted, is_kept| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(given));
            identify(&mut headers, is_trusted);
            assert_eq!(headers[REQUEST_ID] == given, is_kept, "{given}");
            assert!(!headers[REQUEST_ID].is_empty());
        };
        check("abc-1", true, true);
        check("abc-1", false, false);
        check("two words", true, false);
    }

    #[test]
    fn request_ids_differ() {
        let ids: Vec<_> = (0..100).map(|_| fresh_request_id()).collect();
        assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id) && id.len() == 32));
    }

    #[test]
    fn only_websockets_over_http_1_1_are_tunnels() {
        let check = |version, upgrade: &'static str, connection: &'static str, expected| {
            let request = http::Request::get("/").version(version);
            let request = request.header(header::UPGRADE, upgrade).header(header::CONNECTION, connection);
            assert_eq!(wants_websocket(&request.body(()).unwrap().into_parts().0), expected, "{upgrade} {connection}");
        };
        check(Version::HTTP_11, "WebSocket", "keep-alive, Upgrade", true);
        check(Version::HTTP_11, "websocket", "keep-alive", false);
        check(Version::HTTP_11, "h2c", "upgrade", false);
        check(Version::HTTP_10, "websocket", "upgrade", false);
        check(Version::HTTP_2, "websocket", "upgrade", false);
    }
}
