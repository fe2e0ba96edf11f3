//! What is shown below `/logs`: the log files, their ends, and the files themselves.
//!
//! - `shelf`: which files there are, and from a name to one of them. `tail`: the last lines of a file.
//! - `listing`: the pages for people.

mod listing;
mod shelf;
mod tail;

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::files;
use crate::guard::{Guard, guard};
use crate::page::page;
use crate::portal::Portal;
use tail::{LINES_MAX, Tail};

/// Where everything of this module is.
const BELOW: &str = "/logs/";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(crate) fn router(portal: Portal) -> Router {
    let behind = Guard::of_logs(&portal);
    Router::new()
        .route("/logs", any(logs))
        .route(BELOW, any(logs))
        .route("/logs/{*path}", any(logs))
        .layer(from_fn_with_state(behind, guard))
        .with_state(portal)
}

async fn logs(State(portal): State<Portal>, request: Request) -> Response {
    // Relative links of the page need the slash.
    let Some(name) = request.uri().path().strip_prefix(BELOW) else {
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, HeaderValue::from_static("logs/"))]).into_response();
    };
    if name.is_empty() {
        return overview(&portal).await;
    }
    let name = name.to_owned();
    let (name, path) = match shelf::find(portal.settings(), &name).await {
        Ok(Some(found)) => found,
        Ok(None) => return (StatusCode::NOT_FOUND, "There is no such log file; /logs/ lists them.\n").into_response(),
        Err(error) => return unreadable(&name, &error),
    };
    match asked_lines(request.uri().query()) {
        None => whole(&path, request).await,
        Some(Ok(lines)) => last_lines(&name, &path, lines, request.headers()).await,
        Some(Err(())) => {
            let why = format!("lines is a number from 1 to {LINES_MAX}, like ?lines=200.\n");
            (StatusCode::BAD_REQUEST, why).into_response()
        }
    }
}

async fn overview(portal: &Portal) -> Response {
    match shelf::list(portal.settings()).await {
        Ok(files) => page(StatusCode::OK, "Logs", &listing::overview(&files)),
        Err(error) => unreadable("the folder of the logs", &error),
    }
}

/// The file itself, in parts where the client asks for parts.
async fn whole(path: &Path, request: Request) -> Response {
    let mut response = files::serve(path, request).await;
    // A log is text whatever its name ends with; only a packed one is not.
    if !shelf::is_packed(path) && response.headers().contains_key(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
    }
    response
}

/// The end of a file: as a page for browsers, as the lines alone for everybody else.
async fn last_lines(name: &str, path: &Path, lines: usize, headers: &HeaderMap) -> Response {
    if shelf::is_packed(path) {
        let why = format!("{name} is packed: download it whole, without ?lines=.\n");
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    let tail: Tail = match tail::read(path, lines).await {
        Ok(tail) => tail,
        Err(error) => return unreadable(name, &error),
    };
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        return page(StatusCode::OK, name, &listing::tail(name, &tail, lines));
    }
    let mut response = Body::from(tail.text).into_response();
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// How many lines the query asks for, if it asks for lines at all.
fn asked_lines(query: Option<&str>) -> Option<Result<usize, ()>> {
    let lines = query?.split('&').find_map(|pair| pair.strip_prefix("lines="))?;
    Some(lines.parse().ok().filter(|lines| (1..=LINES_MAX).contains(lines)).ok_or(()))
}

fn unreadable(what: &str, error: &std::io::Error) -> Response {
    tracing::warn!(what, %error, "a log cannot be read");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{what} cannot be read: {error}.\n")).into_response()
}
