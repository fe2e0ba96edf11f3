//! Who may use the admin API.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::error;
use crate::handle::Handle;

/// Lets a request through, or says why not.
pub(super) async fn check(State(handle): State<Handle>, request: Request, next: Next) -> Response {
    let live = handle.shared.live.load_full();
    let refusal = match &live.settings.admin_token {
        Some(token) if !bears(request.headers(), token) => {
            Some((StatusCode::UNAUTHORIZED, "this needs the admin token, as \"Authorization: Bearer TOKEN\""))
        }
        None if comes_from_a_page(request.headers()) => {
            Some((StatusCode::FORBIDDEN, "without an admin token, web pages may not use this"))
        }
        _ => None,
    };
    match refusal {
        Some((status, reason)) => error(status, reason),
        None => next.run(request).await,
    }
}

/// Compares in a time that tells nothing of where the two differ.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    given.is_some_and(|given| given.ct_eq(token.as_bytes()).into())
}

/// A browser names the page that asks, and, where a page has lured it here under a name of its own, that name.
fn comes_from_a_page(headers: &HeaderMap) -> bool {
    let names_a_page = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    names_a_page || host.is_some_and(|host| !is_of_this_machine(host))
}

fn is_of_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_address =
        host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() || name.parse::<IpAddr>().is_ok();
    is_address || host.starts_with('[') || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let check = |value: &str, expected| assert_eq!(bears(&headers("authorization", value), "secret"), expected);
        check("Bearer secret", true);
        check("Bearer secre", false);
        check("Bearer secrets", false);
        check("Basic secret", false);
        check("secret", false);
        assert!(!bears(&HeaderMap::new(), "secret"));
    }

    #[test]
    fn pages_of_strangers_are_known_by_origin_or_host() {
        let check = |name, value, expected| assert_eq!(comes_from_a_page(&headers(name, value)), expected, "{value}");
        check("origin", "https://evil.test", true);
        check("sec-fetch-site", "cross-site", true);
        check("host", "evil.test:1090", true);
        check("host", "127.0.0.1:1090", false);
        check("host", "[::1]:1090", false);
        check("host", "localhost:1090", false);
        check("accept", "*/*", false);
    }
}
