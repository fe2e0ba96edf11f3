//! What the balancer and operators ask: health, metrics, and the control of what the node accepts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ctedge_protocol::{Info, InfoCode};
use ctedge_wire::{HealthReport, NodeStatus, headers};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use crate::app::App;

/// `GET /ct-health/`: 200 while the node serves, whatever it accepts.
pub(super) async fn health(State(app): State<Arc<App>>) -> Json<HealthReport> {
    Json(app.health())
}

/// `GET /metrics`: for the private network alone. What came through a balancer names the client that it came from.
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if headers.contains_key("x-forwarded-for") {
        return Problem::not_found().into_response();
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics()).into_response()
}

/// `POST /ct-control/{drain|suspend|resume}`, for whoever has the control token.
pub(super) async fn control(
    State(app): State<Arc<App>>,
    Path(action): Path<String>,
    headers: HeaderMap,
) -> Result<Json<HealthReport>, Problem> {
    let given = headers.get(headers::CONTROL_TOKEN).map(HeaderValue::as_bytes).unwrap_or_default();
    if !bool::from(given.ct_eq(app.settings().secret.control_token().as_bytes())) {
        let info = Info::new(InfoCode::Forbidden, "The control token is missing or wrong");
        return Err(Problem::new(StatusCode::FORBIDDEN, info));
    }
    let status = match &*action {
        "drain" => NodeStatus::Draining,
        "suspend" => NodeStatus::Suspended,
        "resume" => NodeStatus::Ready,
        _ => return Err(Problem::not_found()),
    };
    app.hub.status().change(status);
    Ok(Json(app.health()))
}
