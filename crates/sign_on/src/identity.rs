//! Who has signed on, as an ID token says.
//!
//! The token's signature is not looked at. It came straight from the token endpoint over TLS, and there the server's
//! certificate may stand for it (OpenID Connect Core 1.0, section 3.1.3.7, number 6). Everything else is held against
//! what was asked for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::attempt::{Attempt, derive};

/// The longest ID token that is read. Providers put groups into them; more than this is no token of one user.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// The longest name and the longest address, in bytes. An address has at most 254 (RFC 5321).
const NAME_BYTES_MAX: usize = 256;
const EMAIL_BYTES_MAX: usize = 254;

/// How far the provider's clock may be off, in seconds.
const SKEW_S: f64 = 60.0;

/// Who has signed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What the provider calls the user for ever. Only it and [`Self::issuer`] together name somebody.
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    name: Option<String>,
    email: Option<String>,
}

/// What an ID token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who must have issued it, where that is known.
    pub issuer: Option<&'a str>,
    /// For whom it must be.
    pub client_id: &'a str,
    /// The login that it must be for.
    pub attempt: &'a Attempt,
    /// The time, in seconds since 1970.
    pub now: u64,
}

/// Why an ID token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// It is no token.
    #[error("the ID token cannot be read")]
    Unreadable,
    /// Another provider's.
    #[error("the ID token is of the issuer {0:?}")]
    OtherIssuer(String),
    /// For another client.
    #[error("the ID token is for another client; look at the client id")]
    OtherClient,
    /// Of another login.
    #[error("the ID token is of another login")]
    OtherLogin,
    /// Too late. The provider's clock and this machine's may differ.
    #[error("the ID token has expired; look at the clocks of the provider and of this machine")]
    Expired,
    /// It names nobody.
    #[error("the ID token names nobody")]
    Nobody,
    /// The user's information is another user's.
    #[error("the user's information is of another user")]
    OtherUser,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    nonce: Option<String>,
    #[serde(flatten)]
    profile: Profile,
}

/// What the scopes `profile` and `email` tell (section 5.4), in the ID token or elsewhere.
#[derive(Deserialize)]
struct Profile {
    name: Option<String>,
    preferred_username: Option<String>,
    email: Option<String>,
    email_verified: Option<serde_json::Value>,
}

/// An answer of the place where more is told of a user (section 5.3.2).
#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    #[serde(flatten)]
    profile: Profile,
}

/// One client, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Identity {
    /// Reads an ID token that came straight from the token endpoint.
    pub fn of(id_token: &str, expected: &Expected<'_>) -> Result<Self, IdentityFault> {
        let claims = claims(id_token).ok_or(IdentityFault::Unreadable)?;
        if expected.issuer.is_some_and(|issuer| issuer != claims.iss) {
            return Err(IdentityFault::OtherIssuer(claims.iss));
        }
        if !claims.is_for(expected.client_id) {
            return Err(IdentityFault::OtherClient);
        }
        if claims.nonce.as_deref() != Some(expected.attempt.nonce()) {
            return Err(IdentityFault::OtherLogin);
        }
        if claims.exp + SKEW_S < expected.now as f64 {
            return Err(IdentityFault::Expired);
        }
        if claims.sub.len() > NAME_BYTES_MAX || !is_line(&claims.sub) {
            return Err(IdentityFault::Nobody);
        }
        let (name, email) = (claims.profile.shown_name(), claims.profile.known_email());
        Ok(Self { subject: claims.sub, issuer: claims.iss, name, email })
    }

    /// Whether the ID token did not say what the user is called. Providers may keep that for whoever asks for the user's
    /// information (section 5.4).
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        self.name.is_none()
    }

    /// The same user with what the user's information adds. It must be of the same user.
    pub fn with_user_info(self, json: &[u8]) -> Result<Self, IdentityFault> {
        let info: UserInfo = serde_json::from_slice(json).map_err(|_| IdentityFault::Unreadable)?;
        if info.sub != self.subject {
            return Err(IdentityFault::OtherUser);
        }
        let (name, email) = (info.profile.shown_name(), info.profile.known_email());
        Ok(Self { name: self.name.or(name), email: self.email.or(email), ..self })
    }

    /// What others see: the name, or what is known in its place.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().or(self.email.as_deref()).unwrap_or(&self.subject)
    }

    /// The address, unless the provider says that it is not known to be the user's.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// The user's id at this edge, the same at every node: it tells nobody else the subject.
    #[must_use]
    pub fn user_id(&self, key: &[u8; 32]) -> String {
        derive(key, "user", &format!("{}\0{}", self.issuer, self.subject))
    }
}

impl Claims {
    fn is_for(&self, client: &str) -> bool {
        let is_audience = match &self.aud {
            Audience::One(one) => one == client,
            Audience::Several(several) => several.iter().any(|one| one == client),
        };
        is_audience && self.azp.as_deref().is_none_or(|party| party == client)
    }
}

impl Profile {
    fn shown_name(&self) -> Option<String> {
        [&self.name, &self.preferred_username].into_iter().flatten().find_map(|name| displayed(name))
    }

    fn known_email(&self) -> Option<String> {
        let is_doubtful = |verified: &serde_json::Value| *verified == false || *verified == "false";
        if self.email_verified.as_ref().is_some_and(is_doubtful) {
            return None;
        }
        self.email.clone().filter(|email| email.len() <= EMAIL_BYTES_MAX && is_line(email))
    }
}

fn claims(id_token: &str) -> Option<Claims> {
    if id_token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = id_token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// A name as others see it, on their screens and in the audit: bounded and of one line.
fn displayed(name: &str) -> Option<String> {
    let name = name.trim();
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    is_line(name).then(|| name[..end].trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_wire::{Key, KeyedToken};
    use serde_json::{Value, json};

    const NOW: u64 = 1_800_000_000;

    fn attempt(number: u8) -> Attempt {
        Attempt::of(&[1; 32], &KeyedToken::mint(&Key::parse("room").unwrap(), &[number; 32]))
    }

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    /// A sound token's claims with `changes`; null takes a claim out.
    fn claims(changes: Value) -> Value {
        let mut claims = json!({
            "iss": "https://id.example", "sub": "7", "aud": "edge", "exp": NOW + 300, "nonce": attempt(1).nonce(),
            "name": "Ada Lovelace", "email": "ada@example.org",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn read(token: &str) -> Result<Identity, IdentityFault> {
        let attempt = attempt(1);
        let issuer = Some("https://id.example");
        Identity::of(token, &Expected { issuer, client_id: "edge", attempt: &attempt, now: NOW })
    }

    #[track_caller]
    fn check(changes: Value, expected: Result<(&str, Option<&str>), IdentityFault>) {
        let identity = read(&token(&claims(changes)));
        let identity = identity.as_ref().map(|identity| (identity.name(), identity.email()));
        assert_eq!(identity.map_err(Clone::clone), expected);
    }

    #[test]
    fn a_sound_token_names_a_user() {
        let email = Some("ada@example.org");
        check(json!({}), Ok(("Ada Lovelace", email)));
        check(json!({"aud": ["other", "edge"], "azp": "edge"}), Ok(("Ada Lovelace", email)));
        check(json!({"email_verified": true}), Ok(("Ada Lovelace", email)));
        check(json!({"email_verified": false}), Ok(("Ada Lovelace", None)));
        check(json!({"email_verified": "false"}), Ok(("Ada Lovelace", None)));
        check(json!({"name": null, "preferred_username": "ada"}), Ok(("ada", email)));
        check(json!({"name": " "}), Ok(("ada@example.org", email)));
        check(json!({"name": "Ada\nevent=ended", "email": null}), Ok(("7", None)));
        check(json!({"email": "a".repeat(255)}), Ok(("Ada Lovelace", None)));
        check(json!({"exp": NOW - 30}), Ok(("Ada Lovelace", email)));
        check(json!({"exp": NOW as f64 + 0.5}), Ok(("Ada Lovelace", email)));
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        let identity = read(&token(&claims(json!({"name": "λ".repeat(200)})))).unwrap();
        assert_eq!(identity.name(), "λ".repeat(128));
    }

    #[test]
    fn what_the_token_does_not_say_the_users_information_may() {
        let thin = || read(&token(&claims(json!({"name": null, "email": null})))).unwrap();
        assert!(thin().is_nameless() && !read(&token(&claims(json!({})))).unwrap().is_nameless());
        assert_eq!((thin().name(), thin().email()), ("7", None));
        let with = |info: Value| thin().with_user_info(info.to_string().as_bytes());
        let full =
            with(json!({"sub": "7", "name": "Ada", "email": "ada@example.org", "email_verified": true})).unwrap();
        assert_eq!((full.name(), full.email()), ("Ada", Some("ada@example.org")));
        assert_eq!(with(json!({"sub": "7"})).unwrap().name(), "7");
        assert_eq!(with(json!({"sub": "8", "name": "Eve"})), Err(IdentityFault::OtherUser));
        assert_eq!(thin().with_user_info(b"<html>"), Err(IdentityFault::Unreadable));
    }

    #[test]
    fn a_token_that_is_not_for_this_login_proves_nothing() {
        check(json!({"iss": "https://evil.example"}), Err(IdentityFault::OtherIssuer("https://evil.example".into())));
        check(json!({"aud": "other"}), Err(IdentityFault::OtherClient));
        check(json!({"aud": ["edge", "other"], "azp": "other"}), Err(IdentityFault::OtherClient));
        check(json!({"nonce": null}), Err(IdentityFault::OtherLogin));
        check(json!({"nonce": attempt(2).nonce()}), Err(IdentityFault::OtherLogin));
        check(json!({"exp": NOW - 61}), Err(IdentityFault::Expired));
        check(json!({"sub": ""}), Err(IdentityFault::Nobody));
        check(json!({"exp": null}), Err(IdentityFault::Unreadable));
        for text in ["", "a.b", "a.b.c.d", "e30.!.e30", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(read(text), Err(IdentityFault::Unreadable));
        }
    }

    #[test]
    fn a_user_has_one_id_at_every_node_and_another_at_every_provider() {
        let identity = read(&token(&claims(json!({})))).unwrap();
        let renamed = read(&token(&claims(json!({"name": "Countess of Lovelace"})))).unwrap();
        assert_eq!(identity.user_id(&[1; 32]), renamed.user_id(&[1; 32]));
        let elsewhere = Identity { issuer: "https://other.example".into(), ..identity.clone() };
        assert_ne!(identity.user_id(&[1; 32]), elsewhere.user_id(&[1; 32]));
        assert_ne!(identity.user_id(&[1; 32]), identity.user_id(&[2; 32]));
    }
}
