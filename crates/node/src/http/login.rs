//! `/api/login/…` and `/api/logout`: from a poll token, through the form, to a login token.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ctedge_protocol::http::{LoginInitial, LoginPoll, LoginValidate, SIMPLE_LOGIN_PROVIDER, SimpleLogin, TOKEN_COOKIE};
use ctedge_protocol::{InfoCode, LoginToken, User};
use ctedge_wire::{Key, KeyedToken};

use super::extract::{key_to_issue_on, login_token};
use super::pages;
use super::problem::Problem;
use super::waiting::{Decision, decision, waiting};
use crate::app::{App, DELIVERED_LOGIN_KEPT};
use crate::clock::{random, unix_now};

/// The longest name and the longest address of a user, in bytes. An address has at most 254 (RFC 5321).
const NAME_BYTES_MAX: usize = 256;
const EMAIL_BYTES_MAX: usize = 254;

/// `POST /api/login/initial`: a poll token, and the ways to log in.
pub(super) async fn initial(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let token = KeyedToken::mint(&key_to_issue_on(&headers), &random());
    app.logins.open(token.clone(), Instant::now()).map_err(|_| Problem::unavailable(InfoCode::ServerFull))?;
    Ok(Json(LoginInitial::new(&token, app.providers())).into_response())
}

/// `POST /api/login/poll/{token}`: waits for the form to be sent.
pub(super) async fn poll(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = KeyedToken::parse(&token).ok_or_else(timed_out)?;
    let mut poll = waiting(&app, &headers, &app.logins, &token, timed_out).await?;
    match decision(&app, &mut poll).await {
        Decision::Open => Ok(StatusCode::NO_CONTENT.into_response()),
        // Its time is over, or it waits elsewhere by now.
        Decision::Gone => match waiting(&app, &headers, &app.logins, &token, timed_out).await {
            Ok(_) => Ok(StatusCode::NO_CONTENT.into_response()),
            Err(problem) => Err(problem),
        },
        Decision::Made(login_token) => {
            app.logins.end_by(&token, Instant::now() + DELIVERED_LOGIN_KEPT);
            let mut response = Json(LoginPoll { login_token: login_token.clone() }).into_response();
            if wants_cookie(query.as_deref()) {
                response.headers_mut().append(SET_COOKIE, token_cookie(&login_token));
            }
            Ok(response)
        }
    }
}

/// `POST /api/login/simple`: the form provider, from clients as JSON and from the login page as either.
pub(super) async fn simple(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| Problem::unreadable(rejection.status()))?;
    if !app.settings().simple_login {
        return Err(Problem::not_found());
    }
    let is_form = is_form(&headers);
    let login = read_form(is_form, &body)?;
    let token = KeyedToken::parse(&login.token).ok_or_else(timed_out)?;
    must_wait_here(&app, &headers, &token).await?;
    // A second post of the same form finds the login decided: the first one stands, and both are answered alike.
    decide(&app, &token, &user(&login)?);
    Ok(if is_form { pages::logged_in() } else { "Ok".into_response() })
}

/// Where the login waits that `token` polls for: here, or a redirect to where it does.
pub(super) async fn must_wait_here(app: &Arc<App>, headers: &HeaderMap, token: &KeyedToken) -> Result<(), Problem> {
    if app.logins.contains(token, Instant::now()) {
        return Ok(());
    }
    waiting(app, headers, &app.logins, token, timed_out).await.map(drop)
}

/// Lets whoever polls for the login have it as `user`. `false` if it is decided already, or not here any more.
pub(super) fn decide(app: &App, token: &KeyedToken, user: &User) -> bool {
    let signed = app.hub.tokens().sign_login(user, unix_now());
    let is_decided = app.logins.decide(token, signed, Instant::now());
    if is_decided {
        tracing::info!(target: "sessions", event = "login", user = ?user.name, provider = user.auth_provider);
    }
    is_decided
}

/// There is no such login, or there was.
pub(super) fn timed_out() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, InfoCode::AuthTimeout)
}

/// `POST /api/login/validate`: whether the login token is good.
pub(super) async fn validate(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<LoginValidate> {
    let valid = login_token(&headers).is_some_and(|token| app.user(token).is_some());
    Json(LoginValidate { valid })
}

/// `GET /api/logout`: clears the cookie. The token itself stays good until it expires: nothing is stored about it.
pub(super) async fn logout() -> Response {
    ([(SET_COOKIE, cleared_token_cookie())], "Logged out").into_response()
}

/// Takes the token's cookie away.
pub(super) fn cleared_token_cookie() -> String {
    format!("{TOKEN_COOKIE}=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=None")
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
}

fn read_form(is_form: bool, body: &[u8]) -> Result<SimpleLogin, Problem> {
    if !is_form {
        return serde_json::from_slice(body)
            .map_err(|_| Problem::bad_request("The body must be JSON with token, user and, if you like, email"));
    }
    let mut login = SimpleLogin { token: String::new(), user: String::new(), email: None };
    for (name, value) in form_urlencoded::parse(body) {
        match &*name {
            "token" => login.token = value.into_owned(),
            "user" => login.user = value.into_owned(),
            "email" => login.email = Some(value.into_owned()),
            _ => {}
        }
    }
    Ok(login)
}

/// The user that the form describes. Names reach other people's screens and the audit log: they are bounded and of one
/// line.
fn user(login: &SimpleLogin) -> Result<User, Problem> {
    let name = login.user.trim();
    let email = login.email.as_deref().map(str::trim).filter(|email| !email.is_empty());
    if name.is_empty() {
        return Err(Problem::bad_request("Please give a user name"));
    }
    let is_long = name.len() > NAME_BYTES_MAX || email.is_some_and(|email| email.len() > EMAIL_BYTES_MAX);
    if is_long || name.chars().chain(email.unwrap_or_default().chars()).any(char::is_control) {
        return Err(Problem::bad_request("The user name or the email address is too long or has control characters"));
    }
    Ok(User {
        id: Key::mint(&random()).as_str().to_owned(),
        name: name.to_owned(),
        email: email.map(str::to_owned),
        auth_provider: SIMPLE_LOGIN_PROVIDER.to_owned(),
    })
}

/// Whether the client asks for the token as a cookie as well: `useCookie` with any value.
fn wants_cookie(query: Option<&str>) -> bool {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .any(|(name, value)| name == "useCookie" && !value.is_empty() && value != "false")
}

/// The cookie lives as long as the token in it. `SameSite=None`, because web editors have origins of their own.
fn token_cookie(token: &LoginToken) -> HeaderValue {
    let seconds = ctedge_protocol::token::LOGIN_LIFETIME.as_secs();
    let text = format!("{TOKEN_COOKIE}={}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=None", token.as_str());
    let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, email: Option<&str>, expected: Option<(&str, Option<&str>)>) {
        let login = SimpleLogin { token: String::new(), user: name.into(), email: email.map(Into::into) };
        let user = user(&login).ok();
        assert_eq!(user.as_ref().map(|user| (&*user.name, user.email.as_deref())), expected, "{name:?} {email:?}");
    }

    #[test]
    fn names_are_trimmed_bounded_and_of_one_line() {
        check(" Ada ", Some(" "), Some(("Ada", None)));
        check("Ada", Some("ada@example.org"), Some(("Ada", Some("ada@example.org"))));
        check("Ádá Λ", None, Some(("Ádá Λ", None)));
        check("  ", None, None);
        check("Ada\nevent=ended", None, None);
        check("Ada", Some("a\u{7f}"), None);
        check(&"a".repeat(257), None, None);
        check("Ada", Some(&"a".repeat(255)), None);
    }

    #[test]
    fn a_form_is_read_with_its_escapes() {
        let login = read_form(true, b"token=k.x&user=Ada+%26+Co&email=a%40b&more=1").unwrap();
        assert_eq!((&*login.token, &*login.user, login.email.as_deref()), ("k.x", "Ada & Co", Some("a@b")));
    }

    #[test]
    fn only_a_client_that_asks_gets_a_cookie() {
        assert!(wants_cookie(Some("useCookie=true")));
        assert!(!wants_cookie(Some("useCookie=")));
        assert!(!wants_cookie(Some("other=true")));
        assert!(!wants_cookie(None));
    }
}
