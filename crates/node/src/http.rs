//! The HTTP interface of a node: which handler serves which path, and what every answer goes through.
//!
//! - [`login`], [`sign_on`], [`session`], [`meta`]: the Open Collaboration Protocol.
//! - [`operate`]: health, metrics and control. `scraped`: who may read the metrics.
//! - [`pages`]: the pages that people see.
//! - `waiting`: what is polled for. `owned`: answers of the owner of a key.
//! - [`problem`], [`cors`]: answers that are refusals, and who may read answers.

mod cors;
mod extract;
mod login;
mod meta;
mod operate;
mod owned;
mod pages;
pub(crate) mod problem;
mod scraped;
mod session;
mod sign_on;
mod waiting;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ctedge_protocol::http::{SIGN_ON_CALLBACK_PATH, SIGN_ON_LOGOUT_PATH, SIGN_ON_PATH};
use ctedge_protocol::{Info, InfoCode};
use ctedge_wire::headers::{LEAVE_PATH, OWNER_PATH, REQUEST_ID};

use crate::app::App;
use problem::Problem;

/// The longest body of an API call; the balancer keeps as much for sending it again.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Everything that a node serves, with `pages` that are not its own.
pub(crate) fn router(app: Arc<App>, pages: Router) -> Router {
    Router::new()
        .merge(pages.with_state(()))
        .route("/", get(pages::landing))
        .route("/login.html", get(pages::login))
        .route("/api/meta", get(meta::meta))
        .route("/api/login/initial", post(login::initial))
        .route("/api/login/poll/{token}", post(login::poll))
        .route("/api/login/simple", post(login::simple))
        .route("/api/login/validate", post(login::validate))
        .route(SIGN_ON_PATH, get(sign_on::begin))
        .route(SIGN_ON_CALLBACK_PATH, get(sign_on::callback))
        .route(SIGN_ON_LOGOUT_PATH, get(sign_on::logout))
        .route("/api/logout", get(login::logout).post(login::logout))
        .route("/api/session/create", post(session::create))
        .route("/api/session/join/{room}", post(session::join))
        .route("/api/session/poll/{token}", post(session::poll))
        .route("/ct-health/", get(operate::health))
        .route("/ct-control/plan", get(operate::plan))
        .route(OWNER_PATH, get(operate::owner))
        .route(LEAVE_PATH, post(operate::leave))
        .route("/ct-control/{action}", post(operate::control))
        .route("/metrics", get(operate::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(elsewhere)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), layer))
        .with_state(app)
}

/// Transports may have any path before `/socket.io/`; a client whose server has a path in its URL sends one.
async fn elsewhere(State(app): State<Arc<App>>, request: Request) -> Response {
    if is_transport(request.uri().path()) {
        return Arc::clone(&app.transports).serve(request).await;
    }
    Problem::not_found().into_response()
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, Info::new(InfoCode::BadRequest, "This address has other methods"))
}

fn is_transport(path: &str) -> bool {
    path.ends_with("/socket.io/") || path.ends_with("/socket.io")
}

/// What every request and every answer goes through: cross-origin rules, counting, and pages instead of JSON for
/// browsers.
async fn layer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    app.reach.asked(request.uri(), began);
    let route = route(request.uri().path());
    let request_id = request.headers().get(REQUEST_ID).cloned();
    let origin = cors::judge(request.headers(), &app.settings().cors_origins);
    let wants_page = wants_page(&request);
    let mut response = match origin {
        cors::Origin::Refused => origin_refused(),
        _ if request.method() == Method::OPTIONS => cors::options(request.headers()),
        _ => next.run(request).await,
    };
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = problem {
        app.hub.metrics().refused(problem.reason());
        if wants_page && let Problem::Refused { info, .. } | Problem::NotNow { info, .. } = &problem {
            pages::replace_body(&mut response, &info.message);
        }
    }
    if let cors::Origin::Allowed(origin) = origin {
        cors::allow(&mut response, origin);
    }
    finish(&mut response);
    // The route, not the path: paths and queries hold tokens.
    tracing::debug!(?request_id, route, status = response.status().as_u16(), took = ?began.elapsed(), "answered");
    app.hub.metrics().http_requests.with_label_values(&[route, response.status().as_str()]).inc();
    response
}

fn origin_refused() -> Response {
    let info = Info::new(InfoCode::Forbidden, "Pages of this origin may not call this server");
    Problem::new(StatusCode::FORBIDDEN, info).into_response()
}

/// Whether a person looks at the answer: a browser that navigates, not a page's script.
fn wants_page(request: &Request) -> bool {
    request
        .headers()
        .get(axum::http::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// Tokens stand in most answers of the API: none may be kept by a cache, or be taken for something else.
fn finish(response: &mut Response) {
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_TYPE) {
        headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
}

/// The word of the metrics for a path. A path from outside is never a label itself: labels are bounded.
fn route(path: &str) -> &'static str {
    const EXACT: [&str; 13] = [
        "/",
        "/login.html",
        "/api/meta",
        "/api/login/initial",
        "/api/login/simple",
        "/api/login/validate",
        SIGN_ON_PATH,
        SIGN_ON_CALLBACK_PATH,
        SIGN_ON_LOGOUT_PATH,
        "/api/logout",
        "/api/session/create",
        "/ct-health/",
        "/metrics",
    ];
    const BELOW: [&str; 7] = [
        "/api/login/poll/",
        "/api/session/join/",
        "/api/session/poll/",
        "/ct-control/",
        "/clients",
        "/dashboard",
        "/logs",
    ];
    let exact = EXACT.iter().find(|exact| **exact == path);
    let below = || BELOW.iter().find(|below| path.starts_with(**below));
    match exact.or_else(below) {
        Some(route) => route,
        None if is_transport(path) => "/socket.io/",
        None => "other",
    }
}
