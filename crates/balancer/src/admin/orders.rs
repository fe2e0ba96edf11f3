//! What an operator tells a node: drain, suspend, resume.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ctedge_routing::Node;
use ctedge_wire::headers::{CONTROL_PATH, CONTROL_TOKEN};
use ctedge_wire::{DrainPlan, HealthReport, NodeStatus};
use serde_json::json;

use super::{error, view};
use crate::client::{Reply, request};
use crate::handle::Handle;
use crate::shared::Shared;
use crate::tunnel::dial::DialError;

/// A node answers such a word at once; the time is for a machine that is busy.
const ORDER_TIME_MAX: Duration = Duration::from_secs(5);

/// Tells a node what it takes from here on.
///
/// A node of ours is told, because other balancers must learn of it too. A server that does not know the word cannot
/// be told: then this balancer alone keeps new keys away from it. How a drain is to go (`deadline_s`, `now`, `exit`, `restart`) is
/// the node's to understand.
pub(super) async fn order(
    State(handle): State<Handle>,
    Path((id, order)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let status = match order.as_str() {
        "drain" => NodeStatus::Draining,
        "suspend" => NodeStatus::Suspended,
        "resume" => NodeStatus::Ready,
        _ => return error(StatusCode::NOT_FOUND, format!("\"{order}\" is no order: drain, suspend or resume is")),
    };
    let shared = &handle.shared;
    let node = match find(shared, &id) {
        Ok(node) => node,
        Err(unknown) => return error(StatusCode::NOT_FOUND, unknown),
    };
    let order = query.map_or(order.clone(), |query| format!("{order}?{query}"));
    match tell(shared, &node, &order, status).await {
        Ok(told) => {
            tracing::info!(node = %node.id(), order, told, "an operator ordered this");
            let mut answer = json!({ "ok": true, "told": told });
            answer["node"] = json!(view::node(&node, Instant::now()));
            Json(answer).into_response()
        }
        Err(NotTold::Wrong(reason)) => error(StatusCode::BAD_REQUEST, reason),
        Err(NotTold::Failed(reason)) => error(StatusCode::BAD_GATEWAY, format!("{id} cannot be told: {reason}")),
    }
}

/// Why a node does not follow an order.
enum NotTold {
    /// The order is wrong, and this is how, by the node's own word.
    Wrong(String),
    Failed(String),
}

impl From<String> for NotTold {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// What a drain of a node would move, by the node's own word.
pub(super) async fn plan_drain(State(handle): State<Handle>, Path(id): Path<String>) -> Response {
    let shared = &handle.shared;
    let node = match find(shared, &id) {
        Ok(node) => node,
        Err(unknown) => return error(StatusCode::NOT_FOUND, unknown),
    };
    match call(shared, &node, "GET", "plan").await {
        Ok(Reply { status: 200, body }) if let Ok(plan) = serde_json::from_slice::<DrainPlan>(&body) => {
            Json(plan).into_response()
        }
        Ok(Reply { status, .. }) => {
            error(StatusCode::BAD_GATEWAY, format!("{id} cannot tell what a drain would move: it answered {status}"))
        }
        Err(unanswered) => error(StatusCode::BAD_GATEWAY, format!("{id} cannot be asked: {unanswered}")),
    }
}

fn find(shared: &Shared, id: &str) -> Result<Arc<Node>, String> {
    shared.router.node(id).ok_or_else(|| {
        let nodes = shared.router.nodes();
        let known: Vec<_> = nodes.iter().map(|node| node.id().as_str()).collect();
        format!("there is no node \"{id}\"; there are: {}", known.join(", "))
    })
}

/// Calls one of a node's control endpoints.
async fn call(shared: &Shared, node: &Node, method: &str, what: &str) -> Result<Reply, DialError> {
    let token = shared.live.load().settings.secret.control_token();
    let headers = [(CONTROL_TOKEN, token.as_str())];
    request(node.address(), method, &format!("{CONTROL_PATH}{what}"), &headers, ORDER_TIME_MAX).await
}

/// Returns whether the node itself was told.
async fn tell(shared: &Shared, node: &Arc<Node>, order: &str, status: NodeStatus) -> Result<bool, NotTold> {
    let is_ours = node.report().is_some();
    let asked = Instant::now();
    let reply = call(shared, node, "POST", order).await;
    let now = Instant::now();
    match reply {
        Ok(Reply { status: 200, body }) => {
            if let Ok(report) = serde_json::from_slice::<HealthReport>(&body) {
                // An earlier word of this balancer's own must not outlive the node's.
                shared.note(node, shared.router.order(node, NodeStatus::Ready, now));
                shared.heard_from(node, Some(report), asked);
                return Ok(true);
            }
        }
        Ok(Reply { status: 403, .. }) if is_ours => {
            return Err("it refuses the control token; do both have the same cluster secret?".to_owned().into());
        }
        Ok(Reply { status: 409, .. }) if is_ours => {
            return Err("it is giving its sessions away to stop, and cannot turn back".to_owned().into());
        }
        Ok(Reply { status: 400, body }) if is_ours => {
            let told = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
            let reason = told["message"].as_str().unwrap_or("the node does not understand the order");
            return Err(NotTold::Wrong(reason.to_owned()));
        }
        Ok(Reply { status, .. }) if is_ours => return Err(format!("it answered {status}").into()),
        Err(unanswered) if is_ours => return Err(unanswered.to_string().into()),
        Ok(_) | Err(_) => {}
    }
    shared.note(node, shared.router.order(node, status, now));
    Ok(false)
}
