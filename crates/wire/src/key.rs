//! The stickiness value, and the tokens that carry it back to us.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest key in bytes. Ours have 24; the bound leaves room for keys that other servers mint.
pub const KEY_BYTES_MAX: usize = 128;

/// How many characters a minted key or the random part of a token has: 24 of 62 carry 142 bits.
pub const RANDOM_CHARS: usize = 24;

/// The characters of everything we mint. No `.`, which separates the parts of a [`KeyedToken`].
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 32 bytes from the operating system's random source, handed in by whoever may read it.
pub type Random = [u8; 32];

/// The stickiness value: an opaque string that names a session to the balancer.
///
/// 1 to [`KEY_BYTES_MAX`] characters of `A–Z a–z 0–9 . _ ~ -`: what needs no escaping in a path, a query or a cookie.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

/// Why a text is no key. The text itself is left out: it came from a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedKey {
    /// No character at all.
    #[error("a key has at least one character")]
    Empty,
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("a key has at most {KEY_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character that a key cannot have, at this byte.
    #[error("a key is made of letters, digits and . _ ~ -; byte {0} is something else")]
    Character(usize),
}

impl Key {
    /// Reads a key as a stranger wrote it.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(MalformedKey::Empty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(MalformedKey::TooLong(bytes.len()));
        }
        match bytes.iter().position(|byte| !is_key_byte(*byte)) {
            Some(at) => Err(MalformedKey::Character(at)),
            None => Ok(Self(text.into())),
        }
    }

    /// A fresh key of [`RANDOM_CHARS`] characters.
    #[must_use]
    pub fn mint(random: &Random) -> Self {
        Self(random_text(random).into())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token that names its key, so that whoever brings it back is routable without a table: `KEY.RANDOM`.
///
/// Poll tokens and Engine.IO session ids are of this form.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyedToken(Arc<str>);

impl KeyedToken {
    /// A fresh token of `key`.
    #[must_use]
    pub fn mint(key: &Key, random: &Random) -> Self {
        Self(format!("{}.{}", key.as_str(), random_text(random)).into())
    }

    /// Reads a token as a stranger wrote it: the key, a `.`, and exactly [`RANDOM_CHARS`] letters and digits.
    /// `None` for any other form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (key, random) = text.rsplit_once('.')?;
        let random_is_sound = random.len() == RANDOM_CHARS && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (random_is_sound && Key::parse(key).is_ok()).then(|| Self(text.into()))
    }

    /// The key that the token names. The token is not verified by this: only the node that issued it knows it.
    #[must_use]
    pub fn key(&self) -> Key {
        Key(self.key_text().into())
    }

    /// The text of the key that the token names, for looking it up in a table of keys.
    #[must_use]
    pub fn key_text(&self) -> &str {
        &self.0[..self.0.len() - RANDOM_CHARS - 1]
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-')
}

/// Takes 24 of the 32 bytes at most once each; a byte of 248 and above would favour the first letters, so it is
/// replaced by a spare one, and reduced only when the spares are used up (about one text in 10¹⁰).
fn random_text(random: &Random) -> String {
    let (bytes, spares) = random.split_at(RANDOM_CHARS);
    let mut spares = spares.iter();
    let mut text = String::with_capacity(RANDOM_CHARS);
    for byte in bytes {
        let mut fair = *byte;
        while fair >= 248 {
            match spares.next() {
                Some(spare) => fair = *spare,
                None => break,
            }
        }
        text.push(char::from(ALPHABET[usize::from(fair) % ALPHABET.len()]));
    }
    text
}

/// Keys are compared, ordered and hashed as their texts are.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.0)
    }
}

/// A token admits its bearer: debug output shows the key, never the random part.
impl fmt::Debug for KeyedToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyedToken({}.…)", self.key())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), MalformedKey>) {
        assert_eq!(Key::parse(text).map(|_| ()), expected, "{text:?}");
    }

    #[test]
    fn a_key_is_bounded_in_length_and_characters() {
        check("a", Ok(()));
        check("azAZ09._~-", Ok(()));
        check("", Err(MalformedKey::Empty));
        check(&"k".repeat(128), Ok(()));
        check(&"k".repeat(129), Err(MalformedKey::TooLong(129)));
        check("a b", Err(MalformedKey::Character(1)));
        check("schlüssel", Err(MalformedKey::Character(4)));
        check("a;b", Err(MalformedKey::Character(1)));
    }

    #[test]
    fn a_minted_key_is_a_key_that_names_all_its_random_bytes() {
        let random: Random = std::array::from_fn(|index| index as u8);
        let key = Key::mint(&random);
        assert_eq!(key.as_str(), "0123456789ABCDEFGHIJKLMN");
        assert_eq!(Key::parse(key.as_str()), Ok(key));
    }

    #[test]
    fn minting_replaces_bytes_that_would_favour_some_letters() {
        let mut random = [255; 32];
        random[24..].fill(61);
        assert_eq!(&Key::mint(&random).as_str()[..8], "zzzzzzzz");
    }

    #[test]
    fn a_token_gives_back_its_key_even_when_the_key_has_dots() {
        for text in ["k", "team.alpha", "a.b.c-"] {
            let key = Key::parse(text).unwrap();
            let token = KeyedToken::mint(&key, &[7; 32]);
            assert_eq!(KeyedToken::parse(token.as_str()).map(|token| token.key()), Some(key));
        }
    }

    #[test]
    fn what_is_not_a_token_is_not_read_as_one() {
        for text in ["", ".", "key", "key.short", ".000000000000000000000000", "k.00000000000000000000000é"] {
            assert_eq!(KeyedToken::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn debug_output_of_a_token_hides_its_random_part() {
        let token = KeyedToken::mint(&Key::parse("room").unwrap(), &[7; 32]);
        assert_eq!(format!("{token:?}"), "KeyedToken(room.…)");
    }
}
