//! The frame of all pages, and what they are made of. A page is one document without anything from elsewhere and without
//! scripts; its policy allows its own style and nothing else (Content Security Policy Level 3).

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctedge_settings::ServerUrl;
use sha2::{Digest, Sha256};

const FRAME: &str = include_str!("pages/frame.html");
const STYLE: &str = include_str!("pages/style.css");

/// The policy names the style by its hash, so that two answers with one page are the same bytes.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// The whole document.
pub(crate) fn document(title: &str, body: &str) -> String {
    FRAME.replace("{{title}}", &escape(title)).replace("{{style}}", STYLE).replace("{{body}}", body)
}

/// Answers with a page. Whoever calls says how it may be cached.
pub(crate) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let mut response = (status, Body::from(document(title, body))).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

/// Lets whoever has `response` already, whose body is `text`, be told so: it must be asked for each time, and is sent
/// when it has changed. It is the same for everybody, and caches may keep it for all.
pub(crate) fn revalidated(request: &HeaderMap, mut response: Response, text: &str) -> Response {
    let digest = Sha256::digest(text);
    let mut tag = String::from("\"");
    for byte in &digest[..16] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    let has_it = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        // Weak comparison (RFC 9110, section 13.1.2).
        value.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag || one == "*")
    });
    if has_it {
        let (mut parts, _) = response.into_parts();
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_TYPE);
        response = Response::from_parts(parts, Body::empty());
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// The public URL, without a slash at its end: as it is set, or else as the client asked.
pub(crate) fn public_url(set: Option<&ServerUrl>, headers: &HeaderMap) -> String {
    if let Some(url) = set {
        return url.as_str().to_owned();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = header("x-forwarded-proto").unwrap_or("http");
    let host = header("x-forwarded-host").or_else(|| header(HOST.as_str())).unwrap_or("localhost");
    format!("{scheme}://{host}")
}

/// Text as it stands in a document or in an attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What stands between braces is replaced after this: no text from elsewhere may bring its own.
            '{' => escaped.push_str("&#123;"),
            // XML 1.0, section 2.2: these may not even be written as references.
            control if control.is_control() && !matches!(control, '\t' | '\n' | '\r') => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A size as people say it.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// A time as people say it: its largest unit alone, or the two largest where one is rough.
pub(crate) fn ago(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A segment of a path as it stands in a URL (RFC 3986, section 3.3).
pub(crate) fn encode(segment: &str) -> String {
    const PLAIN: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(segment, &PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_become_markup_or_a_placeholder() {
        assert_eq!(
            escape("<a href=\"x\">'&{{body}}\u{1b}"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#123;&#123;body}}\u{fffd}"
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([0, 1023, 1536, 5 << 20, 3 << 30].map(size), ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB"]);
    }

    #[test]
    fn times_are_short() {
        let times = [0, 59, 61, 7_260, 90_000].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(times, ["0 s", "59 s", "1 min", "2 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn whoever_has_an_answer_already_gets_none() {
        let ask = |tag: Option<&HeaderValue>| {
            let headers = tag.map(|tag| (IF_NONE_MATCH, tag.clone())).into_iter().collect();
            revalidated(&headers, page(StatusCode::OK, "t", "b"), "b")
        };
        let first = ask(None);
        assert_eq!(first.status(), StatusCode::OK);
        let second = ask(first.headers().get(ETAG));
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(ask(Some(&HeaderValue::from_static("\"other\""))).status(), StatusCode::OK);
    }
}
