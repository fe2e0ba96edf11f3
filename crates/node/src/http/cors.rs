//! Cross-origin requests (the Fetch standard, section 3.2): which browsers' pages may call this server.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    ALLOW, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// What this server answers to; a preflight names them, and so does `Allow`.
const METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// How long a browser may remember a preflight, in seconds; two hours is the most that Chromium honours.
const PREFLIGHT_MAX_AGE: &str = "7200";

/// What a request's `Origin` amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Not a browser, or a plain navigation.
    Absent,
    /// A page that may call; the value is reflected, because `*` does not go with credentials.
    Allowed(HeaderValue),
    /// A page that may not.
    Refused,
}

/// Judges the `Origin` of a request. An empty list allows all; the server's own pages may always call.
pub(super) fn judge(headers: &HeaderMap, allowed: &[String]) -> Origin {
    let Some(origin) = headers.get(ORIGIN) else { return Origin::Absent };
    let text = origin.to_str().unwrap_or_default();
    let is_listed = allowed.iter().any(|listed| listed.trim_end_matches('/').eq_ignore_ascii_case(text));
    if allowed.is_empty() || is_listed || is_own(headers, text) {
        Origin::Allowed(origin.clone())
    } else {
        Origin::Refused
    }
}

/// Whether the page came from this server, by the host that the browser asked for. Behind a balancer that is the
/// forwarded one.
fn is_own(headers: &HeaderMap, origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let host = headers.get("x-forwarded-host").or_else(|| headers.get(HOST)).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

/// Whether an `OPTIONS` request asks on behalf of a later one.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to `OPTIONS`, without what [`allow`] adds. Any request header is allowed.
pub(super) fn options(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(ALLOW, HeaderValue::from_static(METHODS));
    if is_preflight(&Method::OPTIONS, headers) {
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE));
        if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
    response
}

/// Lets the page at `origin` read the answer.
pub(super) fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], allowed: &[&str], expected: Origin) {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).try_into().unwrap(), HeaderValue::from_static(value)))
            .collect::<HeaderMap>();
        let allowed: Vec<String> = allowed.iter().map(|&origin| origin.to_owned()).collect();
        assert_eq!(judge(&headers, &allowed), expected);
    }

    fn allowed(origin: &'static str) -> Origin {
        Origin::Allowed(HeaderValue::from_static(origin))
    }

    #[test]
    fn an_empty_list_allows_every_origin() {
        check(&[], &[], Origin::Absent);
        check(&[("origin", "https://ide.example")], &[], allowed("https://ide.example"));
        check(&[("origin", "null")], &[], allowed("null"));
    }

    #[test]
    fn a_list_allows_what_it_names_and_the_servers_own_pages() {
        let list = ["https://ide.example/"];
        check(&[("origin", "https://ide.example")], &list, allowed("https://ide.example"));
        check(&[("origin", "https://other.example")], &list, Origin::Refused);
        check(&[("origin", "null")], &list, Origin::Refused);
        check(&[("origin", "https://edge.example"), ("host", "edge.example")], &list, allowed("https://edge.example"));
        let forwarded = [("host", "127.0.0.1:3001"), ("x-forwarded-host", "edge.example:1443")];
        check(
            &[("origin", "https://edge.example:1443"), forwarded[0], forwarded[1]],
            &list,
            allowed("https://edge.example:1443"),
        );
        check(&[("origin", "http://127.0.0.1:3001"), forwarded[0], forwarded[1]], &list, Origin::Refused);
    }
}
