//! One login under way.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ctedge_wire::KeyedToken;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// One login under way: what ties the browser that began it, the provider's answer and the ID token together.
///
/// Nothing of it is stored. State, nonce and verifier are derived from the poll token under a key of the cluster, each in
/// its own way, so that none of them tells the token or another one.
#[derive(Debug, Clone)]
pub struct Attempt {
    state: String,
    nonce: String,
    verifier: String,
}

impl Attempt {
    /// The attempt to decide the login that is polled for by `token`, under the cluster's `key` for sign-on.
    #[must_use]
    pub fn of(key: &[u8; 32], token: &KeyedToken) -> Self {
        let derive = |purpose: &str| derive(key, purpose, token.as_str());
        Self { state: derive("state"), nonce: derive("nonce"), verifier: derive("verifier") }
    }

    /// Ties the provider's answer to the browser that was sent there (RFC 6749, section 10.12).
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Whether the provider's answer belongs to this attempt.
    #[must_use]
    pub fn is_answered_by(&self, state: &str) -> bool {
        self.state.as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// Ties the ID token to this attempt.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Proves to the provider that whoever brings the code began the attempt (RFC 7636). 43 characters.
    #[must_use]
    pub fn verifier(&self) -> &str {
        &self.verifier
    }

    /// What the provider is told of the verifier beforehand (RFC 7636, section 4.2, `S256`).
    #[must_use]
    pub fn challenge(&self) -> String {
        challenge(&self.verifier)
    }
}

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// 43 characters that only the cluster can tell.
pub(crate) fn derive(key: &[u8; 32], purpose: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(purpose.as_bytes());
    mac.update(b"\0");
    mac.update(text.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_wire::Key;

    fn token(number: u8) -> KeyedToken {
        KeyedToken::mint(&Key::parse("room").unwrap(), &[number; 32])
    }

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn every_node_derives_the_same_and_nobody_else_does() {
        let attempt = Attempt::of(&[1; 32], &token(1));
        assert!(attempt.is_answered_by(Attempt::of(&[1; 32], &token(1)).state()));
        for other in [Attempt::of(&[2; 32], &token(1)), Attempt::of(&[1; 32], &token(2))] {
            assert!(!attempt.is_answered_by(other.state()));
        }
        assert!(!attempt.is_answered_by(""));
    }

    #[test]
    fn state_nonce_and_verifier_differ_and_do_not_hold_the_token() {
        let token = token(7);
        let attempt = Attempt::of(&[1; 32], &token);
        let parts = [attempt.state(), attempt.nonce(), attempt.verifier()];
        for (index, part) in parts.iter().enumerate() {
            // RFC 7636, section 4.1: at least 43 characters.
            assert_eq!(part.len(), 43);
            assert!(!parts[..index].contains(part));
            assert!(!part.contains(token.as_str()));
        }
    }
}
