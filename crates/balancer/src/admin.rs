//! The operator's API: JSON over HTTP on an address of its own.
//!
//! With a token in the settings, everything but `/ct-health/` wants it as a bearer token. Without one the address is a
//! loopback one, where only programs of this machine come; what a browser does for a page of somebody else is refused.

mod authorization;
mod orders;
mod view;

use std::io;
use std::net::TcpListener;
use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ctedge_wire::Key;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::handle::{Handle, ReloadError};
use crate::health::own_report;

/// Serves the API until the task is aborted.
pub(crate) fn serve(listener: TcpListener, handle: Handle) -> io::Result<JoinHandle<()>> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = routes(handle);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin API has ended");
        }
    }))
}

fn routes(handle: Handle) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/explain", get(explain))
        .route("/nodes/{id}/{order}", post(orders::order))
        .route("/plan/drain/{id}", get(orders::plan_drain))
        .route("/reload", post(reload))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(handle.clone(), authorization::check))
        // Whoever supervises the balancer asks this and holds no token.
        .route("/ct-health/", get(health))
        .fallback(async || error(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "this path wants another method"))
        .with_state(handle)
}

/// The form of every error.
fn error(status: StatusCode, reason: impl Into<String>) -> Response {
    (status, Json(json!({ "error": reason.into() }))).into_response()
}

async fn status(State(handle): State<Handle>) -> Response {
    Json(view::status(&handle.shared)).into_response()
}

#[derive(Deserialize)]
struct ExplainQuery {
    key: Option<String>,
}

async fn explain(State(handle): State<Handle>, Query(query): Query<ExplainQuery>) -> Response {
    let Some(key) = query.key else {
        return error(StatusCode::BAD_REQUEST, "which key? ask with ?key=KEY");
    };
    match Key::parse(&key) {
        Ok(key) => {
            let shared = &handle.shared;
            let placement = shared.placement.load();
            Json(shared.router.explain(&key, placement.rank(&key), Instant::now())).into_response()
        }
        Err(malformed) => error(StatusCode::BAD_REQUEST, malformed.to_string()),
    }
}

async fn reload(State(handle): State<Handle>) -> Response {
    match handle.reload().await {
        Ok(reloaded) => {
            let mut answer = json!(reloaded);
            answer["ok"] = json!(true);
            Json(answer).into_response()
        }
        Err(refused @ ReloadError::Faults(_)) => error(StatusCode::BAD_REQUEST, refused.to_string()),
        Err(refused @ ReloadError::Stopping) => error(StatusCode::SERVICE_UNAVAILABLE, refused.to_string()),
    }
}

async fn metrics(State(handle): State<Handle>) -> Response {
    let shared = &handle.shared;
    let nodes = shared.router.nodes();
    let dropped = shared.access_log.as_ref().map_or(0, ctedge_logs::AccessLog::lines_dropped);
    let dropped = dropped + shared.unread.lines_dropped();
    let rendered = shared.metrics.render(
        nodes.iter().map(|node| &**node),
        &shared.router.pin_counts(),
        shared.limits.connections(),
        dropped,
        &shared.certificates.as_ref().map(|certificates| certificates.ends()).unwrap_or_default(),
    );
    // What was counted of nodes that are gone has been read once more.
    if shared.metrics.forget_others(shared.router.nodes().iter().map(|node| &**node)) {
        // A node that has just come back under its name counts again.
        shared.refresh_targets();
    }
    match rendered {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(broken) => error(StatusCode::INTERNAL_SERVER_ERROR, broken.to_string()),
    }
}

async fn health(State(handle): State<Handle>) -> Response {
    let (status, body) = own_report(&handle.shared);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
