//! What the balancer and operators ask: health, metrics, and the control of what the node accepts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ctedge_ownership::{Drain, HandoffReason};
use ctedge_protocol::{Info, InfoCode};
use ctedge_settings::DRAIN_DEADLINE_MAX;
use ctedge_wire::headers::CONTROL_TOKEN;
use ctedge_wire::{DrainPlan, HealthReport, NodeStatus};
use serde::Deserialize;

use super::extract::routed_key;
use super::problem::Problem;
use super::scraped;
use crate::app::App;
use crate::ownership::Order;

/// `GET /ct-health/`: 200 while the node serves, whatever it accepts.
pub(super) async fn health(State(app): State<Arc<App>>) -> Json<HealthReport> {
    Json(app.health())
}

/// `GET /metrics`: to whoever may read it what this node counts; to the public, if the settings say so, the figures of all nodes.
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let text = match scraped::may_read(&app, &headers) {
        true => app.metrics(),
        false if app.changeable.prometheus.load(Ordering::Relaxed) => app.exposition().await.into_bytes(),
        false => return Problem::not_found().into_response(),
    };
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// How a drain goes, as its query says it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainQuery {
    /// Seconds, or `none`.
    deadline_s: Option<String>,
    #[serde(default)]
    now: bool,
    #[serde(default)]
    exit: bool,
    /// Whether the node's process is to be replaced by another.
    #[serde(default)]
    restart: bool,
}

/// `POST /ct-control/{drain|suspend|resume}`, for whoever has the control token.
///
/// A drain may have a query: `deadline_s=600` or `deadline_s=none`, `now=true`, `exit=true`, `restart=true`. Without
/// a shared store there is nobody to hand sessions to: with `exit` those that are left at the deadline end with the process.
pub(super) async fn control(
    State(app): State<Arc<App>>,
    Path(action): Path<String>,
    query: Result<Query<DrainQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<HealthReport>, Problem> {
    check_token(&app, &headers)?;
    let status = match &*action {
        "drain" => NodeStatus::Draining,
        "suspend" => NodeStatus::Suspended,
        "resume" => NodeStatus::Ready,
        _ => return Err(Problem::not_found()),
    };
    let Query(query) = query.map_err(|rejection| Problem::bad_request(&rejection.body_text()))?;
    let drain = match status {
        NodeStatus::Draining => Some(query.drain(app.settings().drain.deadline)?),
        NodeStatus::Suspended | NodeStatus::Ready => None,
    };
    let obeyed = match app.hub.owners() {
        Some(owners) => owners.order(order(status, drain)).await,
        None => {
            app.lone.order(drain);
            app.hub.status().change(status);
            true
        }
    };
    if !obeyed {
        let info =
            Info::new(InfoCode::BadRequest, "The node is giving its sessions away to stop, and cannot turn back");
        return Err(Problem::new(StatusCode::CONFLICT, info));
    }
    // Whoever restarts a suspended node means it to stay suspended.
    if !query.restart {
        app.suspension.remember(status).await;
    }
    Ok(Json(app.health()))
}

fn order(status: NodeStatus, drain: Option<Drain>) -> Order {
    match (status, drain) {
        (_, Some(drain)) => Order::Drain(drain),
        (NodeStatus::Suspended, None) => Order::Suspend,
        (NodeStatus::Ready | NodeStatus::Draining, None) => Order::Resume,
    }
}

/// `GET /ct-control/plan`: what a drain would move at this moment, for whoever has the control token.
///
/// Without a shared store a drain moves nothing: the sessions end where they are.
pub(super) async fn plan(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Json<DrainPlan>, Problem> {
    check_token(&app, &headers)?;
    match app.hub.owners() {
        Some(owners) => owners.foresee().await.map(Json).ok_or_else(Problem::not_found),
        None => {
            let totals = app.hub.totals();
            let (sessions, peers) = (totals.sessions as u64, totals.peers as u64);
            Ok(Json(DrainPlan { sessions, peers, ends_sessions: true, ..DrainPlan::default() }))
        }
    }
}

/// `GET /ct-control/owner`: whether a request of this key and query would be served here, for a balancer that could not send it
/// a second time.
pub(super) async fn owner(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    check_token(&app, &headers)?;
    if routed_key(&headers).is_none() {
        return Err(Problem::bad_request("The key is missing"));
    }
    let elsewhere = app.transports.elsewhere(&uri, &headers).await;
    Ok(elsewhere.unwrap_or_else(|| StatusCode::NO_CONTENT.into_response()))
}

/// `POST /ct-control/leave`: the client that polls with this query is to leave its balancer, which ends.
pub(super) async fn leave(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<StatusCode, Problem> {
    check_token(&app, &headers)?;
    app.transports.leave(&uri);
    Ok(StatusCode::NO_CONTENT)
}

fn check_token(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTROL_TOKEN).map(HeaderValue::as_bytes).unwrap_or_default();
    if app.is_control_token(given) {
        return Ok(());
    }
    let info = Info::new(InfoCode::Forbidden, "The control token is missing or wrong");
    Err(Problem::new(StatusCode::FORBIDDEN, info))
}

/// A deadline within the range of the setting `node.drain.deadline`.
fn deadline_of(seconds: &str) -> Result<Duration, Problem> {
    let deadline = seconds.parse().map(Duration::from_secs);
    deadline.ok().filter(|deadline| *deadline <= DRAIN_DEADLINE_MAX).ok_or_else(|| {
        let most = DRAIN_DEADLINE_MAX.as_secs();
        Problem::bad_request(&format!("deadline_s is a number of seconds from 0 to {most}, or none"))
    })
}

impl DrainQuery {
    fn drain(&self, default_deadline: Duration) -> Result<Drain, Problem> {
        let deadline = match self.deadline_s.as_deref() {
            _ if self.now => Some(Duration::ZERO),
            None => Some(default_deadline),
            Some("none") => None,
            Some(seconds) => Some(deadline_of(seconds)?),
        };
        let reason = match deadline {
            _ if self.restart => HandoffReason::Restart,
            Some(Duration::ZERO) => HandoffReason::DrainNow,
            _ => HandoffReason::DrainDeadline,
        };
        Ok(Drain { deadline, exit: self.exit, reason })
    }
}
