//! Serving one file: ranges, conditions and `HEAD` are [`ServeFile`]'s; what it leaves out is `If-Range`.

use std::path::Path;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeFile;

/// A browser that shows a page out of a folder must not lend it this origin: the dashboard is a part of it.
const SANDBOX: &str = "sandbox allow-downloads allow-popups; frame-ancestors 'none'";

/// Types that the library does not know, or knows by another name than the tools that read them.
const TYPES: [(&str, &str); 6] = [
    ("jar", "application/java-archive"),
    ("vsix", "application/vsix"),
    ("xml", "application/xml"),
    ("xz", "application/x-xz"),
    ("index", "text/plain; charset=utf-8"),
    ("asc", "application/pgp-signature"),
];

/// Answers `request` with the file at `path`.
pub(crate) async fn serve(path: &Path, mut request: Request) -> Response {
    if !range_holds(path, request.headers()).await {
        request.headers_mut().remove(RANGE);
    }
    // A multipart answer would have to be put together; RFC 9110, section 14.2, lets a server ignore ranges.
    let mut service = ServeFile::new(path).ignore_multi_range_requests(true);
    match service.try_call(request).await {
        Ok(response) => {
            let mut response = response.map(Body::new);
            describe(&mut response, path);
            response
        }
        // It was there a moment ago: removed meanwhile, or not readable.
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a file cannot be served");
            StatusCode::NOT_FOUND.into_response()
        }
    }
}

/// Whether the range of a request counts: it does not where `If-Range` names another state of the file (RFC 9110, section
/// 13.1.5).
async fn range_holds(path: &Path, headers: &HeaderMap) -> bool {
    let Some(condition) = headers.get(IF_RANGE).filter(|_| headers.contains_key(RANGE)) else { return true };
    let mut look = Request::new(Body::empty());
    *look.method_mut() = Method::HEAD;
    let Ok(state) = ServeFile::new(path).try_call(look).await else { return true };
    let is_weak = condition.as_bytes().starts_with(b"W/");
    !is_weak && [ETAG, LAST_MODIFIED].iter().any(|name| state.headers().get(name) == Some(condition))
}

fn describe(response: &mut Response, path: &Path) {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let known = TYPES.iter().find(|(of, _)| extension.as_deref() == Some(of));
    let headers = response.headers_mut();
    if let Some((_, kind)) = known.filter(|_| headers.contains_key(CONTENT_TYPE)) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    // An operator may replace any file under its name; asking costs one answer without a body.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
}
