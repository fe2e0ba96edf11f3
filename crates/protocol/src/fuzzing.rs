//! What holds for any bytes of a peer. The fuzz targets and the test command call the same functions.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ctedge_wire::ClusterSecret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::head::KEYS_MAX;
use crate::splice::{Replacements, splice};
use crate::token::TOKEN_BYTES_MAX;
use crate::{Content, Head, JoinAnswer, KeyEntry, ServerNotification, Tokens};

/// Values that a relay puts in: a text, a number, a map without fields.
const ORIGIN: &[u8] = b"\xa4peer";
const ID: &[u8] = b"\x07";
const KEY: &[u8] = b"\x80";

/// A message is refused, or its head and everything in it lie within it, and what is made of it is again a message.
pub fn head(bytes: &[u8]) {
    let _ = JoinAnswer::read(bytes);
    let _ = ServerNotification::read(bytes);
    let mut keys = Vec::new();
    let Ok(head) = Head::walk(bytes, &mut keys) else { return };
    assert!(keys.len() <= KEYS_MAX as usize);
    for key in &keys {
        assert!(!key.entry.of(bytes).is_empty());
        assert_eq!(key.target.of(bytes).len(), key.target.len());
    }
    assert_eq!(splice(&head, Replacements::default()), bytes);
    check_spliced(&head, &splice(&head, Replacements { origin: Some(ORIGIN), id: Some(ID), key: Some(KEY) }));
}

/// `spliced` is the message of `head` with everything replaced.
fn check_spliced(head: &Head<'_>, spliced: &[u8]) {
    let mut keys: Vec<KeyEntry> = Vec::new();
    let again = Head::walk(spliced, &mut keys).expect("a spliced message is one");
    assert_eq!((again.version, again.kind, again.target), (head.version, head.kind, head.target));
    assert_eq!(again.origin.map(|origin| origin.of(spliced)), Some(ORIGIN));
    assert_eq!(again.id.map(|id| id.of(spliced)), head.id.map(|_| ID));
    assert_eq!(again.keys.is_some(), head.keys.is_some());
    assert_eq!(keys.len(), usize::from(head.keys.is_some()));
    match (head.content, again.content) {
        (Content::Plain(old), Content::Plain(new)) => assert_eq!(old.of(head.message), new.of(spliced)),
        (old, new) => assert_eq!(old, new),
    }
}

/// A token is refused, or admits to one thing; and so is one that this server has signed, whatever it claims.
pub fn token(bytes: &[u8]) {
    let secret = ClusterSecret::new("the secret of a cluster that nobody has").expect("a long secret");
    let tokens = Tokens::new(&secret);
    let now = Duration::from_secs(1_800_000_000);
    check_token(&tokens, &String::from_utf8_lossy(bytes), now);

    let mut signed = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256"}"#), BASE64.encode(bytes));
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.token_key()).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    signed.push('.');
    signed.push_str(&BASE64.encode(mac.finalize().into_bytes()));
    check_token(&tokens, &signed, now);
}

fn check_token(tokens: &Tokens, token: &str, now: Duration) {
    let (login, room) = (tokens.verify_login(token, now), tokens.verify_room(token, now));
    assert!(login.is_err() || room.is_err(), "one token, two kinds");
    assert!(token.len() <= TOKEN_BYTES_MAX || room.is_err());
    let Ok(claim) = room else { return };
    let again = tokens.sign_room(&claim, now);
    if again.as_str().len() <= TOKEN_BYTES_MAX {
        let read = tokens.verify_room(again.as_str(), now);
        assert_eq!(read.as_ref().map(|again| tokens.peer_id(again)), Ok(tokens.peer_id(&claim)));
        assert_eq!(read, Ok(claim));
    }
}

#[cfg(test)]
mod tests {
    use ctedge_testing::hostile;

    #[test]
    fn no_bytes_break_the_head_of_a_message() {
        hostile::check("head", super::head);
    }

    #[test]
    fn no_bytes_break_a_token() {
        hostile::check("token", super::token);
    }
}
