//! Ed25519 keys and signatures, and how each is written.
//!
//! All three are written in base64 for URLs without padding (RFC 4648, section 5): letters, digits, `-` and `_` mean
//! themselves in a Java properties file, in a shell and in TOML. A signature and a private key begin with their version.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

/// The form that is signed, see [`crate::Terms::canonical`], and how.
const SIGNATURE_VERSION: &str = "v1.";

/// What a private key begins with, so that a scanner for secrets finds one that got lost.
const PRIVATE_KEY_PREFIX: &str = "ctedge-license-private-key-v1.";

/// The key that licenses are verified with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// The key that licenses are signed with. It is shown by no debug output and wiped when it is dropped.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

/// A signature over the canonical form of a license.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(ed25519_dalek::Signature);

/// The text is not what it should be. It is not repeated: it may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// No public key.
    #[error("this is no public key of licenses; `ctedge license keygen` prints one, of 43 letters and digits")]
    Public,
    /// No private key.
    #[error("this is no private key of licenses; `ctedge license keygen` makes one")]
    Private,
    /// No signature.
    #[error("this is no signature of a license; one is v1. and 86 letters and digits")]
    Signature,
}

impl PrivateKey {
    /// The key that belongs to 32 random bytes.
    #[must_use]
    pub fn from_random(random: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(random))
    }

    /// What verifies its signatures.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The text for the file that keeps it. It is the secret itself: nothing else may get it.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PRIVATE_KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(self.0.to_bytes()))
    }

    pub(crate) fn sign(&self, text: &str) -> Signature {
        Signature(self.0.sign(text.as_bytes()))
    }
}

impl PublicKey {
    /// Whether `signature` was made for `text` with the private key that belongs to this one. Strict: of the forms that
    /// RFC 8032 leaves open none is taken, so that no second signature can be made of a first.
    pub(crate) fn verifies(&self, text: &str, signature: &Signature) -> bool {
        self.0.verify_strict(text.as_bytes(), &signature.0).is_ok()
    }
}

fn decode<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl FromStr for PublicKey {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        let key = decode(text.trim()).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        // A weak key verifies signatures that nobody made.
        key.filter(|key| !key.is_weak()).map(Self).ok_or(KeyFault::Public)
    }
}

impl FromStr for PrivateKey {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        let random = text.trim().strip_prefix(PRIVATE_KEY_PREFIX).and_then(decode);
        random.map(|random| Self::from_random(&random)).ok_or(KeyFault::Private)
    }
}

impl FromStr for Signature {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        let bytes = text.strip_prefix(SIGNATURE_VERSION).and_then(decode);
        bytes.map(|bytes| Self(ed25519_dalek::Signature::from_bytes(&bytes))).ok_or(KeyFault::Signature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(…)")
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SIGNATURE_VERSION}{}", BASE64_URL_SAFE_NO_PAD.encode(self.0.to_bytes()))
    }
}

impl fmt::Debug for Signature {
    /// A license is worth money: a log shows no signature.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signature(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_signatures_are_read_as_they_are_written() {
        let private = PrivateKey::from_random(&[7; 32]);
        let again: PrivateKey = private.expose().parse().unwrap();
        let public: PublicKey = private.public_key().to_string().parse().unwrap();
        let signature: Signature = again.sign("text").to_string().parse().unwrap();
        assert!(public.verifies("text", &signature));
        assert!(!public.verifies("Text", &signature));
        assert!(!PrivateKey::from_random(&[8; 32]).public_key().verifies("text", &signature));
        assert_eq!((public.to_string().len(), signature.to_string().len()), (43, 89));
    }

    /// The first test vector of RFC 8032, section 7.1: the empty message.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let private = PrivateKey::from_random(&seed.try_into().unwrap());
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(private.public_key().0.as_bytes().as_slice(), public);
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555\
                         fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(private.sign("").0.to_bytes().to_vec(), hex(signature));
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let private = PrivateKey::from_random(&[7; 32]);
        let secret = private.expose().replace(PRIVATE_KEY_PREFIX, "");
        let shown = format!("{private:?} {:?} {}", private.sign("text"), KeyFault::Private);
        assert!(!shown.contains(&secret) && !shown.contains(&private.sign("text").to_string()), "{shown}");
    }

    #[test]
    fn a_weak_public_key_is_none() {
        // The identity, of order 1: with it every signature of a kind verifies every text.
        let mut identity = [0; 32];
        identity[0] = 1;
        let text = BASE64_URL_SAFE_NO_PAD.encode(identity);
        assert_eq!(text.parse::<PublicKey>(), Err(KeyFault::Public));
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_is_not(text in "(v1\\.|ctedge-license-private-key-v1\\.)?[A-Za-z0-9_=-]{40,90}|.*") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text.trim());
            }
            if let Ok(key) = text.parse::<PrivateKey>() {
                prop_assert_eq!(key.expose(), text.trim());
            }
            if let Ok(signature) = text.parse::<Signature>() {
                prop_assert_eq!(signature.to_string(), text);
            }
        }
    }
}
