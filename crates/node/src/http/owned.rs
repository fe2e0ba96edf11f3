//! Answers of the owner of a key.

use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use ctedge_wire::Key;

use super::extract::routed_key;
use crate::app::App;
use crate::transport;

/// The answer about `key`, with the word that this node gives it as its owner since `epoch`; 0 where ownership is not
/// shared. The word is only for the key that the balancer placed the request by.
pub(super) fn owned(app: &App, headers: &HeaderMap, key: &Key, epoch: u64, answer: impl IntoResponse) -> Response {
    let epoch = if routed_key(headers).is_some_and(|routed| routed == *key) { epoch } else { 0 };
    transport::owned(answer.into_response(), &app.settings().id, epoch)
}
