//! Who may see a page: HTTP Basic authentication (RFC 7617), with wrong tries slowed.
//!
//! Dashboard and logs each have a login of their own, or share one: see [`Guard::of_dashboard`] and [`Guard::of_logs`].
//! Each guard counts for itself, so that nobody can use the one login that they know to go on guessing the other. `tries`:
//! who has to pause; `visitor`: who has been let in before, and is counted alone.
//!
//! Browsers send a login along with every request that they make, whoever's page asked for it. The interface for IDEs may
//! be called by pages of other origins; what is guarded here may not.

mod tries;
mod visitor;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, HOST, HeaderName, ORIGIN, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctedge_settings::{GENERATED_USER, Login, Password};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::page::page;
use crate::portal::Portal;
use tries::{Client, Judged, Tries};
use visitor::Visitors;

/// A password file is one line; whatever is longer is none.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// The fewest wrong tries of a node's share: people mistype.
const SHARE_MIN: u32 = 3;

/// The guard of some pages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Guard(Arc<Inner>);

struct Inner {
    key: LoginSource,
    realm: &'static str,
    tries: Tries,
    visitors: Visitors,
}

/// Where the login comes from.
enum LoginSource {
    Settings(Login),
    /// The generated password is read each time: an operator may write another one.
    PasswordFile(PathBuf),
}

impl Guard {
    /// The dashboard's: its own login, or else the one of the logs, or else the generated one.
    pub(crate) fn of_dashboard(portal: &Portal) -> Self {
        let settings = portal.settings();
        Self::new(portal, settings.dashboard.as_ref().or(settings.logs.as_ref()), "CodeTogether edge", "ctvisitor")
    }

    /// The logs': their own login, or else whoever may see the dashboard.
    pub(crate) fn of_logs(portal: &Portal) -> Self {
        let settings = portal.settings();
        let is_shared = settings.logs.is_none() || settings.dashboard.is_none();
        // Within one realm a browser uses one login for both, without asking again.
        let (realm, cookie) =
            if is_shared { ("CodeTogether edge", "ctvisitor") } else { ("CodeTogether edge logs", "ctvisitor-logs") };
        Self::new(portal, settings.logs.as_ref().or(settings.dashboard.as_ref()), realm, cookie)
    }

    fn new(portal: &Portal, login: Option<&Login>, realm: &'static str, cookie: &'static str) -> Self {
        let settings = portal.settings();
        let key = match login {
            Some(login) => LoginSource::Settings(login.clone()),
            None => LoginSource::PasswordFile(settings.password_file.clone()),
        };
        let limits = settings.limits.clone();
        let share = share(limits.wrong_tries_max, settings.nodes.len());
        let tries = Tries::new(share, limits.wrong_tries_pause, limits.addresses_max);
        let visitors = Visitors::new(portal.surroundings().visitor_key(), cookie);
        Self(Arc::new(Inner { key, realm, tries, visitors }))
    }

    /// The login that is asked for; none while there is none, or none that can be read.
    async fn login(&self) -> Option<Login> {
        let path = match &self.0.key {
            LoginSource::Settings(login) => return Some(login.clone()),
            LoginSource::PasswordFile(path) => path,
        };
        let length = tokio::fs::metadata(path).await.ok()?.len();
        if length > PASSWORD_BYTES_MAX {
            return None;
        }
        let text = tokio::fs::read_to_string(path).await.ok()?;
        let password = text.trim_end_matches(['\r', '\n']);
        // An empty file must not let in whoever types nothing.
        (!password.is_empty()).then(|| Login { user: GENERATED_USER.to_owned(), password: Password::from(password) })
    }

    /// Whether whoever sends these headers may go on, and the cookie that they get then.
    async fn judge(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Response> {
        let Some(login) = self.login().await else { return Err(no_login()) };
        let visitor = self.0.visitors.known(headers, &login);
        let client = visitor.map_or_else(|| Client::of(headers), Client::Visitor);
        if let Some(pause) = self.0.tries.pause(client, Instant::now()) {
            return Err(paused(pause));
        }
        let Some(given) = headers.get(AUTHORIZATION) else { return Err(self.who_are_you()) };
        match self.0.tries.judge(client, is_right(given, &login), Instant::now()) {
            Judged::Right if visitor.is_some() => Ok(None),
            Judged::Right => Ok(self.0.visitors.welcome(headers, &login)),
            Judged::Wrong => Err(self.who_are_you()),
            Judged::Paused { seconds, begins } => {
                if begins {
                    tracing::warn!(
                        %client,
                        pause_s = seconds,
                        "wrong logins for the dashboard or the logs: this client has to pause"
                    );
                }
                Err(paused(seconds))
            }
        }
    }

    fn who_are_you(&self) -> Response {
        let mut response = page(
            StatusCode::UNAUTHORIZED,
            "Who are you?",
            "<main>\n<h1>Who are you?</h1>\n<p>This page needs the user and the password that the operator set \
             (portal.dashboard_user, CT_DASHBOARD_USER, and the same for the logs). Where none are set, the user is \
             <code>ctuser</code>, and the password stands once in <code>server.log</code>.</p>\n</main>\n",
        );
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.0.realm);
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A node's share of the wrong tries that all nodes together allow: a client comes to whichever it likes.
fn share(tries_max: u32, nodes: usize) -> u32 {
    let nodes = u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
    tries_max.div_ceil(nodes).max(SHARE_MIN.min(tries_max))
}

fn paused(seconds: u64) -> Response {
    let mut response = page(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many wrong passwords",
        &format!(
            "<main>\n<h1>Too many wrong passwords</h1>\n<p>Strangers do not get in from your address for another {seconds} s, \
             not even with the right password. Then try again.</p>\n<p>If it was not you: a browser that has been let in \
             before is not held up by others. Where all people seem to have one address, that of a proxy, the operator \
             names it in <code>balancer.trusted_proxies</code>.</p>\n</main>\n"
        ),
    );
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The middleware: lets through who may see what follows, and says how it may be kept.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match admitted(&guard, request.method(), request.headers()).await {
        Ok(welcome) => {
            let mut response = next.run(request).await;
            if let Some(cookie) = welcome {
                response.headers_mut().append(SET_COOKIE, cookie);
            }
            response
        }
        Err(refusal) => refusal,
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

async fn admitted(guard: &Guard, method: &Method, headers: &HeaderMap) -> Result<Option<HeaderValue>, Response> {
    if is_of_another_page(headers) {
        let why = "Pages of other origins may not read this.\n";
        return Err((StatusCode::FORBIDDEN, why).into_response());
    }
    let welcome = guard.judge(headers).await?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        let allow = [(ALLOW, HeaderValue::from_static("GET, HEAD"))];
        return Err((StatusCode::METHOD_NOT_ALLOWED, allow, "This is read with GET and HEAD.\n").into_response());
    }
    Ok(welcome)
}

/// Whether a page of another origin asks, rather than a person or a program (the Fetch standard, section 3.2): a browser
/// names the origin with every request that a page could read the answer of, unless it is the same.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let host = headers.get("x-forwarded-host").or_else(|| headers.get(HOST));
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), host.map(HeaderValue::to_str)) else { return true };
    !origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// Whether an `Authorization` header has this login. How long it takes tells neither how much of it is right nor how long
/// the right one is.
fn is_right(given: &HeaderValue, login: &Login) -> bool {
    let Some(given) = decoded(given) else { return false };
    // RFC 7617, section 2: the first colon ends the user.
    let Some(colon) = given.iter().position(|byte| *byte == b':') else { return false };
    let (user, password) = (&given[..colon], &given[colon + 1..]);
    let both = same(user, login.user.as_bytes()) & same(password, login.password.reveal().as_bytes());
    both.into()
}

fn decoded(given: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, encoded) = given.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    STANDARD.decode(encoded.trim()).ok()
}

/// Digests are of one length whatever was typed.
fn same(one: &[u8], other: &[u8]) -> Choice {
    let (one, other): ([u8; 32], [u8; 32]) = (Sha256::digest(one).into(), Sha256::digest(other).into());
    one.ct_eq(&other)
}

fn no_login() -> Response {
    page(
        StatusCode::FORBIDDEN,
        "No login is set",
        "<main>\n<h1>No login is set</h1>\n<p>Nobody can see this page, because nobody has a password for it. Set \
         <code>CT_DASHBOARD_USER</code> and <code>CT_DASHBOARD_PASSWORD</code>, or <code>dashboard_user</code> and \
         <code>dashboard_password</code> below <code>[portal]</code> in the settings file.</p>\n\
         <p>Without these the edge makes a password at its start and keeps it in the file \
         <code>portal.password_file</code>: that file cannot be written or read, or is empty. Its user is \
         <code>ctuser</code>; <code>server.log</code> says more.</p>\n\
         </main>\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: password.into() }
    }

    #[track_caller]
    fn check(given: &str, expected: bool) {
        let login = login("ada", "pass:wörd");
        assert_eq!(is_right(&HeaderValue::from_str(given).unwrap(), &login), expected, "{given}");
    }

    #[test]
    fn only_user_and_password_together_are_right() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        check(&basic("ada:pass:wörd"), true);
        check(&basic("ada:pass:wörd").replace("Basic", "bAsIc"), true);
        for wrong in ["ada:pass", "ada:", ":pass:wörd", "eve:pass:wörd", "ada", "", "ada:pass:wörd ", "Ada:pass:wörd"]
        {
            check(&basic(wrong), false);
        }
        check("Bearer abc", false);
        check("Basic", false);
        check("Basic ***", false);
    }

    #[test]
    fn all_nodes_together_allow_what_is_set_and_each_a_slip_or_two() {
        let shares =
            [(10, 0), (10, 1), (10, 2), (10, 3), (10, 20), (2, 4), (1, 1)].map(|(max, nodes)| share(max, nodes));
        assert_eq!(shares, [10, 10, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn only_pages_of_this_server_are_not_of_another() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            is_of_another_page(&headers.collect())
        };
        assert!(!of(&[("host", "edge.example")]));
        assert!(!of(&[("host", "edge.example"), ("origin", "https://edge.example")]));
        assert!(!of(&[
            ("host", "127.0.0.1:3001"),
            ("x-forwarded-host", "Edge.example"),
            ("origin", "https://edge.example")
        ]));
        assert!(of(&[("host", "edge.example"), ("origin", "https://other.example")]));
        assert!(of(&[("host", "edge.example"), ("origin", "null")]));
    }
}
