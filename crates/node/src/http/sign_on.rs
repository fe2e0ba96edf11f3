//! `/api/login/sso` and `/sso/…`: to the sign-on provider, back from it, and out again.
//!
//! Nothing of an attempt is stored. The poll token of the login waits in a cookie of the browser, and the rest is derived
//! from it, so that whichever node has the login by then goes on.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ctedge_protocol::http::SIGN_ON_PATH;
use ctedge_protocol::{Info, InfoCode};
use ctedge_wire::KeyedToken;

use super::extract::cookie;
use super::login::{self, cleared_token_cookie};
use super::pages;
use super::problem::Problem;
use crate::app::App;
use crate::sign_on::{SignOn, SignOnFault};

/// The cookie that ties the browser which was sent to the provider to the login that it is for.
const ATTEMPT_COOKIE: &str = "ctedge-sign-on";

/// The longest reason of a provider that is shown: the codes of the standards are far shorter.
const REASON_BYTES_MAX: usize = 64;

/// `GET /api/login/sso?token=…`: sends the browser to the provider.
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let sign_on = provider(&app)?;
    let token = parameter(query.as_deref(), "token").ok_or_else(login::timed_out)?;
    let token = KeyedToken::parse(&token).ok_or_else(login::timed_out)?;
    login::must_wait_here(&app, &headers, &token).await?;
    let url = sign_on.authorization_url(&sign_on.attempt(&token)).await.map_err(|fault| failed(sign_on, &fault))?;
    Ok(go(&url, Some(attempt_cookie(sign_on, &token))))
}

/// `GET /sso/authorization-code/callback`: the browser comes back from the provider.
pub(super) async fn callback(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let sign_on = provider(&app)?;
    let token = cookie(&headers, ATTEMPT_COOKIE).and_then(KeyedToken::parse).ok_or_else(strayed)?;
    let attempt = sign_on.attempt(&token);
    let state = parameter(query.as_deref(), "state").unwrap_or_default();
    if !attempt.is_answered_by(&state) {
        return Err(strayed());
    }
    // Asked before the code is used: another node can do nothing with a used one.
    login::must_wait_here(&app, &headers, &token).await?;
    if let Some(reason) = parameter(query.as_deref(), "error") {
        return Err(refused(sign_on, &reason));
    }
    let code = parameter(query.as_deref(), "code").ok_or_else(strayed)?;
    let user = sign_on.user(&attempt, &code).await.map_err(|fault| failed(sign_on, &fault))?;
    if login::decide(&app, &token, &user) || app.logins.contains(&token, Instant::now()) {
        let mut response = pages::logged_in();
        response.headers_mut().append(SET_COOKIE, cleared(sign_on));
        return Ok(response);
    }
    // The login has gone to another node meanwhile, or has timed out. The provider knows the user by now and sends the
    // browser straight back.
    let prefix = sign_on.server_url().path_prefix();
    Ok(go(&format!("{prefix}{SIGN_ON_PATH}?token={}", token.as_str()), None))
}

/// `GET /sso/logout`: where the provider sends browsers after a logout. Forgets who they were.
pub(super) async fn logout(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let sign_on = provider(&app)?;
    let mut response = ([(SET_COOKIE, cleared_token_cookie())], pages::logged_out()).into_response();
    response.headers_mut().append(SET_COOKIE, cleared(sign_on));
    Ok(response)
}

fn provider(app: &App) -> Result<&SignOn, Problem> {
    app.sign_on.as_ref().ok_or_else(Problem::not_found)
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let query = query.unwrap_or_default().as_bytes();
    form_urlencoded::parse(query).find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

fn go(url: &str, cookie: Option<HeaderValue>) -> Response {
    let Ok(location) = HeaderValue::from_str(url) else { return Problem::not_found().into_response() };
    let mut response = (StatusCode::FOUND, [(LOCATION, location)]).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// The cookie lives about as long as the login waits.
fn attempt_cookie(sign_on: &SignOn, token: &KeyedToken) -> HeaderValue {
    set_cookie(sign_on, token.as_str(), 600)
}

fn cleared(sign_on: &SignOn) -> HeaderValue {
    set_cookie(sign_on, "", 0)
}

/// `SameSite=Lax`, because the browser comes back by a link of the provider's page.
fn set_cookie(sign_on: &SignOn, value: &str, seconds: u32) -> HeaderValue {
    let url = sign_on.server_url();
    let secure = if url.as_str().starts_with("https://") { "; Secure" } else { "" };
    let path = url.path_prefix();
    let text = format!("{ATTEMPT_COOKIE}={value}; Path={path}/sso/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The browser has no attempt under way that this answer is for: it was kept too long, or comes from somebody else.
fn strayed() -> Problem {
    Problem::bad_request(
        "This sign-on was begun in another browser, or too long ago. Please start it again from your editor.",
    )
}

/// The provider says that the user may not, or does not want to.
fn refused(sign_on: &SignOn, reason: &str) -> Problem {
    let is_code = reason.len() <= REASON_BYTES_MAX && reason.bytes().all(|byte| byte.is_ascii_graphic());
    let reason = if is_code { reason } else { "for a reason that cannot be shown" };
    tracing::warn!(provider = sign_on.provider(), reason, "the sign-on provider refuses a user");
    let text = format!("{} did not sign you on: {reason}. Please start again from your editor.", sign_on.provider());
    Problem::new(StatusCode::FORBIDDEN, Info::new(InfoCode::Forbidden, text))
}

/// The provider cannot be asked, or its answer proves nothing. What exactly is for the log, where operators look.
fn failed(sign_on: &SignOn, fault: &SignOnFault) -> Problem {
    tracing::warn!(provider = sign_on.provider(), %fault, "nobody can sign on");
    let text = format!(
        "{} could not be asked who you are. Please try again; if it stays so, tell whoever runs this server.",
        sign_on.provider()
    );
    Problem::new(StatusCode::BAD_GATEWAY, Info::new(InfoCode::AuthInternalError, text))
}
