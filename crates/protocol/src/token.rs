//! The signed tokens: a login token says who somebody is, a room token admits its bearer to one session.
//!
//! Both are JSON Web Tokens (RFC 7519) under HS256 (RFC 7515, RFC 7518 section 3.2) and the cluster secret, so that
//! every node reads what any node signed. There is exactly one algorithm and one key, and time is an argument; the
//! JWT libraries at hand read the clock themselves and bring every other algorithm along, so the three steps (encode,
//! authenticate, check the times) stand here over `hmac`, and the RFC's own example is a test.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use ctedge_wire::{ClusterSecret, Key};

use crate::peer::{PeerId, User};

/// How long a login lasts. Clients keep the token between sessions and ask for a new login when it is refused.
pub const LOGIN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a room token is good for reconnecting. It outlives a session that is left open over a working week; it
/// opens nothing once its session has ended.
pub const ROOM_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How far the clocks of two nodes may be apart.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(60);

/// The longest token that is looked at. Ours have a few hundred bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The header of every token that we sign.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What a room token claims: one join of one user to one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomClaim {
    /// The session's key.
    pub room: Key,
    /// Which join of the session this is. The host's is 0; it rises with each join, so that every join has a token and
    /// a peer of its own, and an old token means a reconnect.
    #[serde(default)]
    pub room_clock: u64,
    /// Who joined.
    pub user: User,
    /// Whether the bearer is the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host: bool,
}

/// A signed login token. Debug output hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginToken(String);

/// A signed room token. Debug output hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomToken(String);

impl LoginToken {
    /// The token as it goes to the client.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RoomToken {
    /// The token as it goes to the client.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LoginToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LoginToken(…)")
    }
}

impl fmt::Debug for RoomToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RoomToken(…)")
    }
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRefusal {
    /// It has not the form of a token, or not the claims of its kind.
    #[error("the token cannot be read")]
    Malformed,
    /// It names another algorithm than HS256, `none` included.
    #[error("the token is not signed with HS256")]
    WrongAlgorithm,
    /// It was not signed with this cluster's secret, or was changed since.
    #[error("the token was not signed by this server")]
    Forged,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was issued, or begins, in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A login token where a room token belongs, or the other way around.
    #[error("the token is of the wrong kind")]
    WrongKind,
}

/// Signs and verifies the tokens of one cluster.
#[derive(Clone)]
pub struct Tokens {
    signing: Hmac<Sha256>,
    peer_ids: Hmac<Sha256>,
}

impl Tokens {
    /// The tokens of the cluster with this secret.
    #[must_use]
    pub fn new(secret: &ClusterSecret) -> Self {
        Self::with_keys(&secret.token_key(), &secret.peer_id_key())
    }

    fn with_keys(token_key: &[u8], peer_id_key: &[u8]) -> Self {
        let keyed = |key: &[u8]| Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Self { signing: keyed(token_key), peer_ids: keyed(peer_id_key) }
    }

    /// Signs a login at `unix_now`, the time since 1970.
    #[must_use]
    pub fn sign_login(&self, user: &User, unix_now: Duration) -> LoginToken {
        LoginToken(self.sign(user, unix_now, LOGIN_LIFETIME))
    }

    /// Signs a join at `unix_now`, the time since 1970.
    #[must_use]
    pub fn sign_room(&self, claim: &RoomClaim, unix_now: Duration) -> RoomToken {
        RoomToken(self.sign(claim, unix_now, ROOM_LIFETIME))
    }

    /// Who bears this login token.
    pub fn verify_login(&self, token: &str, unix_now: Duration) -> Result<User, TokenRefusal> {
        let claims = self.verify(token, unix_now)?;
        if claims.kind.room.is_some() { Err(TokenRefusal::WrongKind) } else { parse(&claims.payload) }
    }

    /// What this room token admits its bearer to.
    pub fn verify_room(&self, token: &str, unix_now: Duration) -> Result<RoomClaim, TokenRefusal> {
        let claims = self.verify(token, unix_now)?;
        if claims.kind.room.is_none() { Err(TokenRefusal::WrongKind) } else { parse(&claims.payload) }
    }

    /// The id of the peer that this claim admits.
    #[must_use]
    pub fn peer_id(&self, claim: &RoomClaim) -> PeerId {
        let mut mac = self.peer_ids.clone();
        mac.update(claim.room.as_str().as_bytes());
        mac.update(b"\n");
        mac.update(claim.room_clock.to_string().as_bytes());
        PeerId::from_digest(&mac.finalize().into_bytes().into())
    }

    fn sign(&self, claims: &impl Serialize, unix_now: Duration, lifetime: Duration) -> String {
        let issued = Issued { claims, iat: unix_now.as_secs(), exp: (unix_now + lifetime).as_secs() };
        let payload = serde_json::to_string(&issued).expect("claims are maps of texts and numbers");
        let mut token = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(payload));
        let mut mac = self.signing.clone();
        mac.update(token.as_bytes());
        let signature = BASE64.encode(mac.finalize().into_bytes());
        token.push('.');
        token.push_str(&signature);
        token
    }

    /// Authenticates the token before anything in its payload is believed, then checks its times.
    fn verify(&self, token: &str, unix_now: Duration) -> Result<Verified, TokenRefusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefusal::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenRefusal::Malformed)?;
        let header: Header = parse(&decode(header)?)?;
        if header.alg != "HS256" {
            return Err(TokenRefusal::WrongAlgorithm);
        }
        let mut mac = self.signing.clone();
        mac.update(signed.as_bytes());
        mac.verify_slice(&decode(signature)?).map_err(|_| TokenRefusal::Forged)?;
        let payload = decode(payload)?;
        let kind: KindAndTimes = parse(&payload)?;
        kind.check_times(unix_now)?;
        Ok(Verified { kind, payload })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tokens(…)")
    }
}

#[derive(Serialize)]
struct Issued<'a, C> {
    #[serde(flatten)]
    claims: &'a C,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

struct Verified {
    kind: KindAndTimes,
    payload: Vec<u8>,
}

/// What both kinds of token have in common, and the field that tells them apart. Times are numbers with or without a
/// fraction (RFC 7519, section 2, NumericDate).
#[derive(Deserialize)]
struct KindAndTimes {
    #[serde(default)]
    room: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    exp: Option<f64>,
}

impl KindAndTimes {
    fn check_times(&self, unix_now: Duration) -> Result<(), TokenRefusal> {
        let now = unix_now.as_secs_f64();
        let leeway = CLOCK_LEEWAY.as_secs_f64();
        if self.exp.is_some_and(|exp| now >= exp) {
            return Err(TokenRefusal::Expired);
        }
        let begins_later = |time: Option<f64>| time.is_some_and(|time| time > now + leeway);
        if begins_later(self.iat) || begins_later(self.nbf) { Err(TokenRefusal::NotYetValid) } else { Ok(()) }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenRefusal> {
    BASE64.decode(part).map_err(|_| TokenRefusal::Malformed)
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, TokenRefusal> {
    serde_json::from_slice(json).map_err(|_| TokenRefusal::Malformed)
}

#[cfg(test)]
mod tests;
