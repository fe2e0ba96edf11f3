//! The cluster secret, and what is derived from it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The fewest bytes of a secret: HS256 wants a key as long as its hash (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// The secret that all balancers and nodes of one cluster share.
///
/// It is never used itself: each use derives a key of its own (HMAC-SHA-256 over the name of the use), so that none
/// of them tells anything of another.
#[derive(Clone)]
pub struct ClusterSecret(Vec<u8>);

/// A secret of fewer than [`SECRET_BYTES_MIN`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster secret has {0} bytes, but needs at least {SECRET_BYTES_MIN}")]
pub struct SecretTooShort(usize);

impl ClusterSecret {
    /// Takes the secret as it is, with white space around it removed.
    pub fn new(text: &str) -> Result<Self, SecretTooShort> {
        let bytes = text.trim().as_bytes();
        if bytes.len() < SECRET_BYTES_MIN { Err(SecretTooShort(bytes.len())) } else { Ok(Self(bytes.to_vec())) }
    }

    /// Keys the placement hash, so that outsiders cannot aim sessions at a node.
    #[must_use]
    pub fn placement_seed(&self) -> u64 {
        let digest = self.derive("placement");
        u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
    }

    /// Signs login and room tokens (HS256).
    #[must_use]
    pub fn token_key(&self) -> [u8; 32] {
        self.derive("tokens")
    }

    /// Derives peer ids from room tokens, so that every node gives a token's bearer the same id.
    #[must_use]
    pub fn peer_id_key(&self) -> [u8; 32] {
        self.derive("peer ids")
    }

    /// What an attempt to sign on with a provider is derived under, so that any node goes on with it.
    #[must_use]
    pub fn sign_on_key(&self) -> [u8; 32] {
        self.derive("sign-on")
    }

    /// Signs what tells a visitor of the dashboard who has had the right password before from a stranger.
    #[must_use]
    pub fn visitor_key(&self) -> [u8; 32] {
        self.derive("visitors")
    }

    /// Keys the hash by which nodes count users together, so that nobody else learns a user from it.
    #[must_use]
    pub fn users_seed(&self) -> u64 {
        let digest = self.derive("users");
        u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
    }

    /// The value of [`crate::headers::CONTROL_TOKEN`]: 64 hexadecimal digits.
    #[must_use]
    pub fn control_token(&self) -> String {
        self.derive("control").iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The password of dashboard and logs where the settings have none: 96 bits in 24 hexadecimal digits, which are beyond guessing and
    /// can still be typed.
    #[must_use]
    pub fn dashboard_password(&self) -> String {
        self.derive("dashboard password").iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"ctedge ");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let secret = ClusterSecret::new(&"s".repeat(32)).unwrap();
        assert_ne!(secret.token_key(), secret.peer_id_key());
        assert_ne!(secret.control_token(), ClusterSecret::new(&"t".repeat(32)).unwrap().control_token());
        assert_eq!(secret.control_token().len(), 64);
        assert_eq!(secret.dashboard_password().len(), 24);
        assert!(!secret.control_token().starts_with(&secret.dashboard_password()));
    }

    #[test]
    fn a_short_secret_is_refused_and_a_secret_is_never_shown() {
        assert_eq!(ClusterSecret::new("  short \n").unwrap_err(), SecretTooShort(5));
        let secret = ClusterSecret::new("correct horse battery staple, and some more").unwrap();
        assert_eq!(format!("{secret:?}"), "ClusterSecret(…)");
    }
}
