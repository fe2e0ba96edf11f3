//! The pages that people see: the login, the landing page, and what went wrong. Each is one document without anything
//! from elsewhere; its policy allows its own style and script by a nonce and nothing else (Content Security Policy
//! Level 3).

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use ctedge_protocol::http::{AuthProvider, FormField};
use ctedge_wire::{Key, KeyedToken};

use crate::app::App;
use crate::clock::random;

const FRAME: &str = include_str!("../pages/frame.html");
const STYLE: &str = include_str!("../pages/style.css");
const LOGIN: &str = include_str!("../pages/login.html");
const LOGIN_SCRIPT: &str = include_str!("../pages/login.js");
const LANDING: &str = include_str!("../pages/landing.html");
const LANDING_SCRIPT: &str = include_str!("../pages/landing.js");

/// `GET /`: what this is, and how to use it.
pub(super) async fn landing(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let body = LANDING
        .replace("{{script}}", LANDING_SCRIPT)
        .replace("{{owner}}", &escape(&app.settings().owner))
        .replace("{{url}}", &escape(&public_url(&headers)));
    page("CodeTogether edge", &body)
}

/// `GET /login.html?token=…`: the ways to log in.
pub(super) async fn login(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let token = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find_map(|(name, value)| (name == "token").then(|| KeyedToken::parse(&value)).flatten());
    let forms = match token {
        Some(token) => forms(&app.providers(), &token),
        None => notice("bad", "This login link is incomplete. Please start the login again from your editor."),
    };
    let body = LOGIN
        .replace("{{script}}", LOGIN_SCRIPT)
        .replace("{{forms}}", &forms)
        .replace("{{owner}}", &escape(&app.settings().owner));
    page("Log in", &body)
}

/// What a browser without the page's script sees after it posted the form.
pub(super) fn logged_in() -> Response {
    let text = "You are logged in. You can close this page and go back to your editor.";
    page("Logged in", &format!("<main>\n<h1>Logged in</h1>\n{}</main>\n", notice("good", text)))
}

/// What a browser sees after a logout.
pub(super) fn logged_out() -> Response {
    let text = "You are logged out. Editors that are logged in stay so until their logins end.";
    page("Logged out", &format!("<main>\n<h1>Logged out</h1>\n{}</main>\n", notice("good", text)))
}

/// Puts a page in the place of a refusal's JSON; status and other headers stay.
pub(super) fn replace_body(response: &mut Response, message: &str) {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("Refused");
    let heading = escape(reason);
    let body = format!(
        "<main>\n<h1>{heading}</h1>\n{}<p class=\"quiet\">Status {}</p>\n</main>\n",
        notice("bad", message),
        status.as_u16()
    );
    let page = page(reason, &body);
    let (parts, body) = page.into_parts();
    *response.body_mut() = body;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.extend(parts.headers);
}

/// The whole document, with its policy. Nothing of it may be cached or named to other servers: the login's address
/// holds a token.
fn page(title: &str, body: &str) -> Response {
    let nonce = Key::mint(&random());
    let document = FRAME
        .replace("{{title}}", &escape(title))
        .replace("{{style}}", STYLE)
        .replace("{{body}}", body)
        .replace("{{nonce}}", nonce.as_str());
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         form-action 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    );
    let mut response = Body::from(document).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Not `no-referrer`: browsers then send `Origin: null` with the form, which no list of origins has.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn forms(providers: &[AuthProvider], token: &KeyedToken) -> String {
    let mut html = String::new();
    for provider in providers {
        match provider {
            AuthProvider::Form { endpoint, details, fields, .. } => {
                if let Some(details) = details {
                    let _ = writeln!(html, "<p>{}</p>", escape(&details.message));
                }
                form(&mut html, endpoint, fields, token);
            }
            AuthProvider::Web { endpoint, label, .. } => {
                let (endpoint, label) = (escape(relative(endpoint)), escape(&label.message));
                let token = token.as_str();
                let _ = writeln!(html, r#"<p><a class="button" href="{endpoint}?token={token}">{label}</a></p>"#);
            }
        }
    }
    if html.is_empty() {
        html = notice("bad", "No way to log in is switched on at this server. Please ask whoever runs it.");
    }
    html
}

/// A keyed token consists of characters that need no escaping in an attribute or a query.
fn form(html: &mut String, endpoint: &str, fields: &[FormField], token: &KeyedToken) {
    let _ = writeln!(html, r#"<form method="post" action="{}">"#, escape(relative(endpoint)));
    let _ = writeln!(html, r#"<input type="hidden" name="token" value="{}">"#, token.as_str());
    for (index, field) in fields.iter().enumerate() {
        let (name, label) = (escape(field.name), escape(&field.label.message));
        let optional = if field.required { "" } else { r#" <span class="quiet">(optional)</span>"# };
        let required = if field.required { " required" } else { "" };
        let focus = if index == 0 { " autofocus" } else { "" };
        let (kind, autocomplete) = if field.name == "email" { ("email", "email") } else { ("text", "name") };
        let described =
            if field.place_holder.is_some() { format!(r#" aria-describedby="{name}-hint""#) } else { String::new() };
        let _ = writeln!(html, r#"<label for="{name}">{label}{optional}</label>"#);
        let _ = writeln!(
            html,
            r#"<input id="{name}" name="{name}" type="{kind}" autocomplete="{autocomplete}" maxlength="254"{described}{required}{focus}>"#
        );
        if let Some(hint) = &field.place_holder {
            let _ = writeln!(html, r#"<p class="hint" id="{name}-hint">{}</p>"#, escape(&hint.message));
        }
    }
    html.push_str("<button type=\"submit\">Log in</button>\n</form>\n");
}

/// An endpoint relative to the page, so that a path before both of them keeps working.
fn relative(endpoint: &str) -> &str {
    endpoint.trim_start_matches('/')
}

fn notice(kind: &str, text: &str) -> String {
    format!("<p class=\"notice {kind}\" role=\"alert\">{}</p>\n", escape(text))
}

/// The public URL as the balancer tells it; without one, as the client asked.
fn public_url(headers: &HeaderMap) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = header("x-forwarded-proto").unwrap_or("http");
    let host = header("x-forwarded-host").or_else(|| header(HOST.as_str())).unwrap_or("localhost");
    format!("{scheme}://{host}")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What stands between braces is replaced after this: no text from elsewhere may bring its own.
            '{' => escaped.push_str("&#123;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_become_markup_or_a_placeholder() {
        assert_eq!(escape(r#"<a href="x">'&{{nonce}}"#), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#123;&#123;nonce}}");
    }

    #[test]
    fn the_form_posts_relative_to_the_page_and_has_every_field() {
        let token = KeyedToken::mint(&Key::parse("k").unwrap(), &[0; 32]);
        let html = forms(&[AuthProvider::simple()], &token);
        assert!(html.contains(r#"action="api/login/simple""#), "{html}");
        assert!(html.contains(r#"name="token" value="k.000000000000000000000000""#), "{html}");
        assert!(html.contains(r#"<input id="user" name="user" type="text""#) && html.contains(" required"), "{html}");
        assert!(html.contains(r#"<input id="email" name="email" type="email""#), "{html}");
    }

    #[test]
    fn a_server_without_a_way_to_log_in_says_so() {
        let token = KeyedToken::mint(&Key::parse("k").unwrap(), &[0; 32]);
        assert!(forms(&[], &token).contains("No way to log in"));
    }
}
