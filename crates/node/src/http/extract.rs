//! What handlers read from a request's head.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use ctedge_protocol::User;
use ctedge_protocol::http::{TOKEN_COOKIE, TOKEN_HEADER};
use ctedge_wire::{Key, headers};

use super::problem::Problem;
use crate::app::App;
use crate::clock::random;
pub(super) use crate::transport::unreachable;

/// The key that the balancer placed the request by. `None` where a client came without a balancer.
pub(super) fn routed_key(headers: &HeaderMap) -> Option<Key> {
    Key::parse(headers.get(headers::KEY)?.to_str().ok()?).ok()
}

/// The key that everything issued in this request is built on.
pub(super) fn key_to_issue_on(headers: &HeaderMap) -> Key {
    routed_key(headers).unwrap_or_else(|| Key::mint(&random()))
}

/// The token of header or cookie; the header wins.
pub(super) fn login_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok()).or_else(|| cookie(headers, TOKEN_COOKIE))
}

/// Who has logged in, or 403.
pub(super) fn user(app: &App, headers: &HeaderMap) -> Result<User, Problem> {
    login_token(headers).and_then(|token| app.user(token)).ok_or_else(Problem::forbidden)
}

/// The first cookie of this name (RFC 6265, section 5.4: the more specific one comes first).
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_cookie_is_found_among_others_and_across_headers() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; xoct-jwt=no"));
        headers.append(COOKIE, HeaderValue::from_static("b=2;oct-jwt=yes; oct-jwt=late"));
        assert_eq!(login_token(&headers), Some("yes"));
        headers.insert(TOKEN_HEADER, HeaderValue::from_static("header"));
        assert_eq!(login_token(&headers), Some("header"));
    }
}
