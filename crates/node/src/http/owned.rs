//! Answers of the owner of a key.

use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::transport;

/// The answer, with the word that this node gives it as the owner of the request's key since `epoch`; 0 where ownership
/// is not shared.
pub(super) fn owned(app: &App, epoch: u64, answer: impl IntoResponse) -> Response {
    transport::owned(answer.into_response(), &app.settings().id, epoch)
}
