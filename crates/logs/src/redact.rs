//! What is taken out of a request line before it may be logged.
//!
//! A token admits its bearer, so none may reach a log: not from a query, not from a path, not by way of a `Referer`.
//! What names the session (the key part of a token) stays, because it is what an operator searches for.

use std::borrow::Cow;

use ctedge_wire::KeyedToken;

/// What stands in the place of a secret.
const REMOVED: &str = "…";

/// Query parameters whose value is a secret, whatever it looks like. Compared without regard to case.
const SECRET_PARAMETERS: [&str; 12] = [
    "x-oct-jwt",
    "oct-jwt",
    "jwt",
    "token",
    "access_token",
    "id_token",
    "polltoken",
    "logintoken",
    "roomtoken",
    "sid",
    "code",
    "password",
];

/// The path segment before a poll token: `/api/login/poll/{token}`, `/api/session/poll/{token}`.
const POLL_SEGMENT: &str = "poll";

/// `target`, a path with or without a query or a whole URL, without the secrets in it.
#[must_use]
pub fn redact(target: &str) -> Cow<'_, str> {
    if !may_hold_a_secret(target) {
        return Cow::Borrowed(target);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut clean = String::with_capacity(target.len());
    redact_path(path, &mut clean);
    if let Some(query) = query {
        clean.push('?');
        redact_query(query, &mut clean);
    }
    Cow::Owned(clean)
}

/// Most requests have no query and no poll token: one look at their bytes is all they cost.
fn may_hold_a_secret(target: &str) -> bool {
    target.contains('?') || target.contains("/poll/") || target.contains("eyJ") || target.contains('#')
}

fn redact_path(path: &str, clean: &mut String) {
    let mut after_poll = false;
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            clean.push('/');
        }
        if (after_poll && !segment.is_empty()) || looks_like_a_web_token(segment) {
            push_removed(segment, clean);
        } else {
            clean.push_str(segment);
        }
        // A slash too many does not make a token harmless.
        after_poll = segment == POLL_SEGMENT || (after_poll && segment.is_empty());
    }
}

fn redact_query(query: &str, clean: &mut String) {
    // A fragment never reaches a server, but a Referer or a sloppy client may carry one, or a second question mark: what
    // follows is read as more query.
    for (index, pair) in query.split(['&', ';', '#', '?']).enumerate() {
        if index > 0 {
            clean.push('&');
        }
        let Some((name, value)) = pair.split_once('=') else {
            if looks_like_a_secret(pair) {
                push_removed(pair, clean);
            } else {
                clean.push_str(pair);
            }
            continue;
        };
        clean.push_str(name);
        clean.push('=');
        if !value.is_empty() && (names_a_secret(name) || looks_like_a_secret(value)) {
            push_removed(value, clean);
        } else {
            clean.push_str(value);
        }
    }
}

fn push_removed(secret: &str, clean: &mut String) {
    if let Some(token) = KeyedToken::parse(secret) {
        clean.push_str(token.key().as_str());
        clean.push('.');
    }
    clean.push_str(REMOVED);
}

/// A name may be percent-encoded; servers decode it before they compare, so it is decoded here.
fn names_a_secret(name: &str) -> bool {
    let name = percent_decode(name);
    SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

fn looks_like_a_secret(value: &str) -> bool {
    KeyedToken::parse(value).is_some() || looks_like_a_web_token(value)
}

/// Every JSON Web Token begins with the base64url of `{"`.
fn looks_like_a_web_token(value: &str) -> bool {
    value.starts_with("eyJ") && value.contains('.')
}

fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = (bytes[index] == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[index]));
        index += if escaped.is_some() { 3 } else { 1 };
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: &str = "abcdefghijklmnopqrstuvwx";

    fn check(target: &str, expected: &str) {
        assert_eq!(redact(target), expected, "{target}");
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_is() {
        for target in ["/", "/clients/vscode/codetogether-onpremises-1.vsix", "/a?b=c&d", "*", "/x?ctstickiness=room"] {
            check(target, target);
        }
    }

    #[test]
    fn a_token_in_a_query_is_removed_and_its_key_stays() {
        check("/websocket?x-oct-jwt=eyJhbGciOi.J9.abc&x-oct-client=a", "/websocket?x-oct-jwt=…&x-oct-client=a");
        check(
            &format!("/socket.io/?EIO=4&transport=polling&sid=room.{RANDOM}"),
            "/socket.io/?EIO=4&transport=polling&sid=room.…",
        );
        check("/login.html?token=anything", "/login.html?token=…");
        check("/login.html?Token=anything", "/login.html?Token=…");
        check("/login.html?%74oken=anything", "/login.html?%74oken=…");
        check("/x?password=p&%zz=1", "/x?password=…&%zz=1");
    }

    #[test]
    fn a_token_is_known_by_its_look_under_any_name() {
        check(&format!("/x?other=room.{RANDOM}"), "/x?other=room.…");
        check("/x?other=eyJhbGciOi.J9.abc", "/x?other=…");
        check("/x?eyJhbGciOi.J9.abc", "/x?…");
        check("/x/eyJhbGciOi.J9.abc/y", "/x/…/y");
    }

    #[test]
    fn a_poll_token_in_a_path_is_removed_below_any_prefix() {
        check(&format!("/api/login/poll/room.{RANDOM}"), "/api/login/poll/room.…");
        check(
            &format!("/ct/api/session/poll/room.{RANDOM}?useCookie=true"),
            "/ct/api/session/poll/room.…?useCookie=true",
        );
        check("/api/login/poll/not-a-token", "/api/login/poll/…");
        check(&format!("/api/login//poll//room.{RANDOM}/"), "/api/login//poll//room.…/");
    }

    #[test]
    fn a_referer_is_a_whole_url() {
        check("https://edge.example/login.html?token=secret#x", "https://edge.example/login.html?token=…&x");
        check("https://edge.example/x?a=b?token=secret", "https://edge.example/x?a=b&token=…");
    }
}
