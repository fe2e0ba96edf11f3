//! `/api/session/…`: creating a session, asking to join one, and waiting for its host.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ctedge_protocol::InfoCode;
use ctedge_protocol::http::{JoinPoll, JoinStarted, SessionCreated};
use ctedge_wire::{Key, KeyedToken};

use super::extract::{key_to_issue_on, routed_key, user};
use super::problem::Problem;
use crate::app::App;
use crate::clock::random;
use crate::hub::{CreateRefusal, JoinRefusal};

/// `POST /api/session/create`: reserves a session under the request's key.
pub(super) async fn create(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let user = user(&app, &headers)?;
    let key = key_to_issue_on(&headers);
    let room_token = app.hub.create(&key, user).map_err(|refusal| match refusal {
        CreateRefusal::InUse => Problem::Misdirected(Key::mint(&random())),
        CreateRefusal::Full => Problem::unavailable(InfoCode::ServerFull),
        CreateRefusal::NotAccepting => Problem::unavailable(InfoCode::ServerDraining),
    })?;
    Ok(Json(SessionCreated { room_id: key, room_token }).into_response())
}

/// `POST /api/session/join/{room}`: asks the host.
pub(super) async fn join(
    State(app): State<Arc<App>>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = user(&app, &headers)?;
    let not_found = || Problem::new(StatusCode::NOT_FOUND, InfoCode::RoomNotFound);
    let room = Key::parse(&room).map_err(|_| not_found())?;
    let token = app.hub.request_join(&room, &user).map_err(|refusal| match refusal {
        JoinRefusal::NotFound => misdirected(&headers, &room).unwrap_or_else(not_found),
        JoinRefusal::SessionFull => Problem::unavailable(InfoCode::SessionFull),
        JoinRefusal::ServerFull => Problem::unavailable(InfoCode::ServerFull),
    })?;
    Ok(Json(JoinStarted::new(&token, room)).into_response())
}

/// `POST /api/session/poll/{token}`: the first poll says that the host is being asked, later ones wait for its answer.
pub(super) async fn poll(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    user(&app, &headers)?;
    let not_found = || Problem::new(StatusCode::NOT_FOUND, InfoCode::JoinRequestNotFound);
    let token = KeyedToken::parse(&token).ok_or_else(not_found)?;
    let Some(mut poll) = app.hub.joins().poll(&token, Instant::now()) else {
        return Err(misdirected(&headers, &token.key()).unwrap_or_else(not_found));
    };
    if poll.is_first && !poll.is_decided() {
        return Ok(Json(JoinPoll::waiting()).into_response());
    }
    let mut stop = app.polls.signal();
    let decision = tokio::select! {
        decision = tokio::time::timeout(app.settings().timeouts.poll, poll.decided()) => decision,
        () = stop.stopped() => return Ok(StatusCode::NO_CONTENT.into_response()),
    };
    match decision {
        Err(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(None) => Err(not_found()),
        Ok(Some(answer)) => Ok(Json(answer).into_response()),
    }
}

/// The problem of a session that this node does not have and whose key is not the one that the request was placed by.
fn misdirected(headers: &HeaderMap, key: &Key) -> Option<Problem> {
    routed_key(headers).is_some_and(|routed| routed != *key).then(|| Problem::Misdirected(key.clone()))
}
