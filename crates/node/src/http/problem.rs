//! What goes wrong over HTTP: `Info` JSON for clients, a small page for browsers, 421 for the balancer.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ctedge_protocol::{Info, InfoCode};
use ctedge_wire::Redirect;

use crate::hub::NotHere;
use crate::license::NoSeat;

/// When a client that was refused for want of room may try again. Long enough to matter, short enough to wait for.
const RETRY: Duration = Duration::from_secs(5);

/// An answer that is not what the client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request belongs to another key, or to another node; nothing has happened.
    Misdirected(Redirect),
    /// Nobody can do anything about it at the moment.
    NotNow {
        /// What to tell the user.
        info: Info,
        /// When to try again.
        retry_after: Duration,
    },
    /// Everything else.
    Refused {
        /// The status.
        status: StatusCode,
        /// What to tell the user.
        info: Info,
    },
}

impl Problem {
    pub(crate) fn new(status: StatusCode, info: impl Into<Info>) -> Self {
        Self::Refused { status, info: info.into() }
    }

    /// 400 with a text of its own.
    pub(crate) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Info::new(InfoCode::BadRequest, message))
    }

    /// A body that is too long, or that did not arrive whole.
    pub(crate) fn unreadable(status: StatusCode) -> Self {
        Self::new(status, InfoCode::BadRequest)
    }

    /// 403: there is no valid login.
    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, InfoCode::Forbidden)
    }

    /// 404: nothing is served at this path.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, Info::new(InfoCode::BadRequest, "There is nothing at this address"))
    }

    /// 503 for want of room or because the node stops.
    pub(crate) fn unavailable(code: InfoCode) -> Self {
        Self::NotNow { info: code.into(), retry_after: RETRY }
    }

    /// 503 for want of a licensed seat.
    pub(crate) fn no_seat(no_seat: &NoSeat) -> Self {
        let code = match no_seat {
            NoSeat::AllTaken { .. } => InfoCode::SeatsTaken,
            NoSeat::StoreAway => InfoCode::Unavailable,
        };
        Self::NotNow { info: Info::new(code, no_seat.to_string()), retry_after: RETRY }
    }

    /// What a request is told whose session, or login, is not here. Without one it is told that `missing`.
    pub(crate) fn not_here(not_here: &NotHere, missing: impl FnOnce() -> Self) -> Self {
        if let Some(redirect) = not_here.redirect() {
            return Self::Misdirected(redirect);
        }
        match not_here {
            NotHere::Full => Self::unavailable(InfoCode::ServerFull),
            NotHere::NotAccepting => Self::unavailable(InfoCode::ServerDraining),
            NotHere::Unavailable { retry_after } => {
                Self::NotNow { info: InfoCode::Unavailable.into(), retry_after: *retry_after }
            }
            _ => missing(),
        }
    }

    /// The word of the metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Misdirected(_) => "misdirected",
            Self::Refused { info, .. } | Self::NotNow { info, .. } => match info.code {
                InfoCode::AuthTimeout => "auth_timeout",
                InfoCode::RoomNotFound => "room_not_found",
                InfoCode::JoinRequestNotFound => "join_request_not_found",
                InfoCode::Forbidden => "forbidden",
                InfoCode::BadRequest => "bad_request",
                InfoCode::SessionFull => "session_full",
                InfoCode::ServerFull => "server_full",
                InfoCode::ServerDraining => "draining",
                InfoCode::Unavailable => "unavailable",
                InfoCode::LicenseExpired | InfoCode::LicenseInvalid => "license",
                InfoCode::SeatsTaken => "no_seat",
                _ => "other",
            },
        }
    }
}

impl IntoResponse for Problem {
    /// Leaves the problem in the response's extensions, where [`super::layer`] finds it to count it and to show it to
    /// browsers.
    fn into_response(self) -> Response {
        let mut response = match &self {
            Self::Misdirected(redirect) => misdirected(redirect),
            Self::NotNow { info, .. } => (StatusCode::SERVICE_UNAVAILABLE, Json(info)).into_response(),
            Self::Refused { status, info } => (*status, Json(info)).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Self::NotNow { retry_after, .. } = &self {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
        }
        response.extensions_mut().insert(self);
        response
    }
}

fn misdirected(redirect: &Redirect) -> Response {
    let mut response = (StatusCode::MISDIRECTED_REQUEST, "This request belongs elsewhere.\n").into_response();
    for (name, value) in redirect.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
