//! `GET /api/meta`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ctedge_protocol::http::Meta;

use crate::app::App;

/// Who runs the server, and what it speaks.
pub(super) async fn meta(State(app): State<Arc<App>>) -> Response {
    Json(Meta::new(&app.settings().owner)).into_response()
}
