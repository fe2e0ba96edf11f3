//! Logins that wait, at the end of a node.
//!
//! A login has no session, but whoever waits for one looks for it under its token's key. Where that is the key of a session,
//! because a client names its session in all of its requests, the login goes with the session. A node that is about to end
//! owns the other keys for a moment, and hands them off like sessions.

use std::collections::{HashMap, HashSet, hash_map};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_ownership::{Ask, Ticket, Wants};
use ctedge_protocol::LoginToken;
use ctedge_wire::{Key, KeyedToken};
use serde::{Deserialize, Serialize};

use crate::pending::PendingTable;

/// Ends the logins in an estate. JSON has no raw line feed.
const END: u8 = b'\n';

/// The logins that wait under one key. Their written form is a line of JSON at the beginning of an estate; that of a session
/// does not begin like JSON, so that one is not taken for the other.
#[derive(Serialize, Deserialize)]
pub(super) struct WaitingLogins {
    logins: Vec<WaitingLogin>,
}

#[derive(Serialize, Deserialize)]
struct WaitingLogin {
    token: String,
    decision: Option<LoginToken>,
    left: Duration,
}

/// The keys that a node owns, or is about to, for the logins that wait under them.
#[derive(Default)]
pub(super) struct LoginKeys {
    /// Each with whether it is owned.
    keys: HashMap<Key, bool>,
    owned: usize,
    /// Keys that were owned, and are on their way to other nodes.
    leaving: HashSet<Key>,
}

impl LoginKeys {
    /// Takes in a key that is asked for. `false` if it is there.
    pub(super) fn ask(&mut self, key: Key) -> bool {
        match self.keys.entry(key) {
            hash_map::Entry::Occupied(_) => false,
            hash_map::Entry::Vacant(place) => {
                place.insert(false);
                true
            }
        }
    }

    /// Takes in a key that is owned.
    pub(super) fn own(&mut self, key: Key) {
        self.leaving.remove(&key);
        self.owned += usize::from(!self.keys.insert(key, true).unwrap_or(false));
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.keys.contains_key(key)
    }

    /// How many are owned, those included that are leaving and still here, as `is_here` says.
    pub(super) fn owned(&mut self, is_here: impl Fn(&Key) -> bool) -> usize {
        self.leaving.retain(is_here);
        self.owned + self.leaving.len()
    }

    /// The key leaves the node. Whether it was owned for its logins: one that was only asked for may be a session's.
    pub(super) fn leave(&mut self, key: &Key) -> bool {
        let was_owned = self.remove(key) == Some(true);
        if was_owned {
            self.leaving.insert(key.clone());
        }
        was_owned
    }

    /// The key is a session's from here on.
    pub(super) fn become_session(&mut self, key: &Key) {
        self.remove(key);
    }

    /// Gives whether it was owned, if it was there.
    fn remove(&mut self, key: &Key) -> Option<bool> {
        let removed = self.keys.remove(key);
        self.owned -= usize::from(removed == Some(true));
        removed
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes out the keys under which nothing waits any more. Gives those that are owned.
    pub(super) fn take_idle(&mut self, logins: &PendingTable<LoginToken>) -> Vec<Key> {
        let now = Instant::now();
        let mut idle: Vec<Key> = self.keys.keys().filter(|key| !logins.has_any_of(key, now)).cloned().collect();
        idle.retain(|key| self.leave(key));
        idle
    }
}

/// The keys under which logins wait.
pub(super) fn keys(logins: &PendingTable<LoginToken>) -> Vec<Key> {
    logins.keys(Instant::now())
}

/// The question by which a key comes to be owned for its logins. Nobody waits for the answer.
pub(super) fn ask_for(key: Key, ticket: Ticket) -> Ask {
    Ask { ticket, key, wants: Wants::New, unreachable: Vec::new() }
}

/// Takes the logins that wait under the key out of the table, so that those who poll for them ask again. `None` when
/// there are none.
pub(super) fn take(logins: &PendingTable<LoginToken>, key: &Key, now: Instant) -> Option<WaitingLogins> {
    let taken = logins.take_of(key, now).into_iter();
    let logins: Vec<WaitingLogin> = taken
        .map(|(token, decision, left)| WaitingLogin { token: token.as_str().to_owned(), decision, left })
        .collect();
    (!logins.is_empty()).then_some(WaitingLogins { logins })
}

/// Writes logins, and the session whose key they wait under; that is empty where there is none.
pub(super) fn write(waiting: WaitingLogins, session: &[u8]) -> Bytes {
    // Writing plain data into memory cannot fail.
    let mut estate = serde_json::to_vec(&waiting).unwrap_or_default();
    estate.push(END);
    estate.extend_from_slice(session);
    estate.into()
}

/// The logins that an estate begins with, and the rest of it: a session, or nothing.
pub(super) fn read(estate: &[u8]) -> (Option<WaitingLogins>, &[u8]) {
    if estate.first() != Some(&b'{') {
        return (None, estate);
    }
    let end = estate.iter().position(|byte| *byte == END).unwrap_or(estate.len());
    let (logins, rest) = estate.split_at(end);
    (serde_json::from_slice(logins).ok(), rest.get(1..).unwrap_or_default())
}

/// Lets the logins wait here. One that finds no room fails as if its time were over.
pub(super) fn restore(logins: &PendingTable<LoginToken>, waiting: WaitingLogins, now: Instant) {
    for WaitingLogin { token, decision, left } in waiting.logins {
        let Some(token) = KeyedToken::parse(&token) else { continue };
        if logins.open(token.clone(), now).is_ok() {
            if let Some(decision) = decision {
                logins.decide(&token, decision, now);
            }
            logins.end_by(&token, now + left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn logins_that_wait_go_on_elsewhere_with_the_time_that_they_had_left() {
        let key = Key::parse("login").unwrap();
        let (from, to) = (PendingTable::new(10, MINUTE), PendingTable::new(10, MINUTE));
        let (token, other) = (KeyedToken::mint(&key, &[1; 32]), KeyedToken::mint(&Key::parse("x").unwrap(), &[1; 32]));
        let start = Instant::now();
        from.open(token.clone(), start).unwrap();
        from.open(other.clone(), start).unwrap();
        let mut poll = from.poll(&token, start).unwrap();

        let waiting = take(&from, &key, start + MINUTE / 2).unwrap();
        assert_eq!(poll.decided().await, None, "who polls here learns that there is nothing to wait for");
        assert!(from.contains(&other, start));
        let estate = write(waiting, b"");
        let (waiting, session) = read(&estate);
        assert!(session.is_empty());
        restore(&to, waiting.unwrap(), start);
        assert!(to.contains(&token, start + MINUTE / 2 - Duration::from_millis(1)));
        assert!(!to.contains(&token, start + MINUTE / 2));
        assert!(take(&from, &key, start).is_none());
    }

    #[test]
    fn keys_that_are_owned_for_logins_are_counted_once() {
        let mut keys = LoginKeys::default();
        let key = |text: &str| Key::parse(text).unwrap();
        assert!(keys.ask(key("a")) && keys.ask(key("b")) && !keys.ask(key("a")));
        let mut here = vec![key("c")];
        assert_eq!(keys.owned(|key| here.contains(key)), 0);
        for own in ["a", "a", "c"] {
            keys.own(key(own));
        }
        assert_eq!(keys.owned(|key| here.contains(key)), 2);
        keys.become_session(&key("a"));
        assert!(!keys.leave(&key("b")), "it was asked for alone");
        assert_eq!(keys.owned(|key| here.contains(key)), 1);
        let logins = PendingTable::new(10, MINUTE);
        assert!(keys.ask(key("d")));
        assert_eq!(keys.take_idle(&logins), [key("c")]);
        assert!(!keys.contains(&key("d")));
        assert_eq!(keys.owned(|key| here.contains(key)), 1, "it is no session on its way either");
        here.clear();
        assert_eq!(keys.owned(|key| here.contains(key)), 0);
    }

    #[test]
    fn logins_and_the_session_of_their_key_are_told_apart() {
        for session in [&b""[..], &[0x8b, b'{', b'\n', b'}']] {
            let (logins, rest) = read(session);
            assert!(logins.is_none());
            assert_eq!(rest, session);
            let both = write(WaitingLogins { logins: Vec::new() }, session);
            let (logins, rest) = read(&both);
            assert!(logins.is_some());
            assert_eq!(rest, session);
        }
    }
}
