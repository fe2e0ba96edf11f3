//! `/api/session/…`: creating a session, asking to join one, and waiting for its host.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use ctedge_protocol::InfoCode;
use ctedge_protocol::http::{JoinPoll, JoinStarted, SessionCreated};
use ctedge_wire::{Key, KeyedToken, Redirect};

use super::extract::{key_to_issue_on, routed_key, unreachable, user};
use super::owned::owned;
use super::problem::Problem;
use super::waiting::{Decision, decision, waiting};
use crate::app::App;
use crate::clock::random;
use crate::hub::{CreateRefusal, JoinRefusal};

/// `POST /api/session/create`: reserves a session under the request's key.
pub(super) async fn create(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let user = user(&app, &headers)?;
    let key = key_to_issue_on(&headers);
    let (room_token, epoch) = app.hub.create(&key, user).await.map_err(|refusal| match refusal {
        CreateRefusal::NoLicense(info) => Problem::new(StatusCode::FORBIDDEN, info),
        CreateRefusal::NoSeat(no_seat) => Problem::no_seat(&no_seat),
        CreateRefusal::InUse => Problem::Misdirected(Redirect::Key(Key::mint(&random()))),
        CreateRefusal::NotHere(not_here) => {
            Problem::not_here(&not_here, || Problem::unavailable(InfoCode::Unavailable))
        }
    })?;
    let created = SessionCreated { room_id: key.clone(), room_token };
    Ok(owned(&app, &headers, &key, epoch, Json(created)))
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
    let (routed, unreachable) = (routed_key(&headers), unreachable(&headers));
    let asked = app.hub.request_join(routed.as_ref(), &unreachable, &room, &user).await;
    let (token, epoch) = asked.map_err(|refusal| match refusal {
        JoinRefusal::NotHere(not_here) => Problem::not_here(&not_here, not_found),
        JoinRefusal::NoSeat(no_seat) => Problem::no_seat(&no_seat),
        JoinRefusal::SessionFull => Problem::unavailable(InfoCode::SessionFull),
        JoinRefusal::ServerFull => Problem::unavailable(InfoCode::ServerFull),
        JoinRefusal::Moving => Problem::unavailable(InfoCode::Unavailable),
    })?;
    Ok(owned(&app, &headers, &room, epoch, Json(JoinStarted::new(&token, room.clone()))))
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
    let key = token.key();
    let mut poll = waiting(&app, &headers, app.hub.joins(), &token, not_found).await?;
    let epoch = app.hub.epoch(&key);
    if poll.is_first && !poll.is_decided() {
        return Ok(owned(&app, &headers, &key, epoch, Json(JoinPoll::waiting())));
    }
    match decision(&app, &mut poll).await {
        Decision::Made(answer) => Ok(owned(&app, &headers, &key, epoch, Json(answer))),
        Decision::Open => Ok(owned(&app, &headers, &key, epoch, StatusCode::NO_CONTENT)),
        // Its time is over, or its session is elsewhere by now.
        Decision::Gone => match waiting(&app, &headers, app.hub.joins(), &token, not_found).await {
            Ok(_) => Ok(owned(&app, &headers, &key, app.hub.epoch(&key), StatusCode::NO_CONTENT)),
            Err(problem) => Err(problem),
        },
    }
}
