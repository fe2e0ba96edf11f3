//! A bounded table of what waits for somebody's decision: logins for their form, join requests for their host.
//!
//! Whoever waits holds the entry's token and polls with it. An entry ends at its time to live, decided or not; those who
//! wait for it then learn that it is gone.

use std::collections::{BTreeMap, HashMap, hash_map};
use std::time::{Duration, Instant};

use ctedge_wire::{Key, KeyedToken};
use parking_lot::Mutex;
use tokio::sync::watch;

/// The table. `T` is the decision.
#[derive(Debug)]
pub(crate) struct PendingTable<T> {
    entries_max: usize,
    time_to_live: Duration,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    /// The entries by the keys that their tokens name. None of the inner tables is empty.
    entries: HashMap<Key, HashMap<KeyedToken, Entry<T>>>,
    /// The tokens by the end of their entries; the number tells entries of one instant apart.
    /// Each entry has one.
    ends: BTreeMap<(Instant, u64), KeyedToken>,
    opened: u64,
}

#[derive(Debug)]
struct Entry<T> {
    end: (Instant, u64),
    polled: bool,
    decision: watch::Sender<Option<T>>,
}

/// The table has as many entries as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many logins or join requests wait for a decision")]
pub(crate) struct TableFull;

/// One poll of an entry.
#[derive(Debug)]
pub(crate) struct Poll<T> {
    /// Whether this is the first poll of the entry.
    pub(crate) is_first: bool,
    decision: watch::Receiver<Option<T>>,
}

impl<T: Clone> PendingTable<T> {
    pub(crate) fn new(entries_max: usize, time_to_live: Duration) -> Self {
        let inner = Inner { entries: HashMap::new(), ends: BTreeMap::new(), opened: 0 };
        Self { entries_max, time_to_live, inner: Mutex::new(inner) }
    }

    /// Opens an entry.
    pub(crate) fn open(&self, token: KeyedToken, now: Instant) -> Result<(), TableFull> {
        let mut inner = self.inner.lock();
        inner.purge(now);
        if inner.ends.len() >= self.entries_max {
            return Err(TableFull);
        }
        // Whoever polls an entry of the same token learns that it is gone, and asks again.
        inner.remove(&token);
        inner.opened += 1;
        let end = (now + self.time_to_live, inner.opened);
        inner.ends.insert(end, token.clone());
        let entry = Entry { end, polled: false, decision: watch::Sender::new(None) };
        inner.entries.entry(token.key()).or_default().insert(token, entry);
        Ok(())
    }

    /// Whether the entry is there.
    pub(crate) fn contains(&self, token: &KeyedToken, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.purge(now);
        inner.get(token).is_some()
    }

    /// Decides an entry and wakes whoever polls it. `false` when there is none, or it is decided already: the first
    /// decision stands.
    pub(crate) fn decide(&self, token: &KeyedToken, decision: T, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.purge(now);
        let Some(entry) = inner.get(token) else { return false };
        entry.decision.send_if_modified(|current| {
            let is_open = current.is_none();
            if is_open {
                *current = Some(decision);
            }
            is_open
        })
    }

    /// Begins a poll, or `None` when there is no such entry.
    pub(crate) fn poll(&self, token: &KeyedToken, now: Instant) -> Option<Poll<T>> {
        let mut inner = self.inner.lock();
        inner.purge(now);
        let entry = inner.get_mut(token)?;
        let is_first = !std::mem::replace(&mut entry.polled, true);
        Some(Poll { is_first, decision: entry.decision.subscribe() })
    }

    /// The decided entries whose tokens name this key, with what is left of their time.
    pub(crate) fn decided_of(&self, key: &Key, now: Instant) -> Vec<(KeyedToken, T, Duration)> {
        let inner = self.inner.lock();
        let of_key = inner.entries.get(key).into_iter().flatten();
        let decided = of_key.filter_map(|(token, entry)| {
            let decision = entry.decision.borrow().clone()?;
            Some((token.clone(), decision, entry.end.0.saturating_duration_since(now)))
        });
        decided.collect()
    }

    /// The keys that the tokens of the entries name.
    pub(crate) fn keys(&self, now: Instant) -> Vec<Key> {
        let mut inner = self.inner.lock();
        inner.purge(now);
        inner.entries.keys().cloned().collect()
    }

    /// Whether there is an entry whose token names this key.
    pub(crate) fn has_any_of(&self, key: &Key, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.purge(now);
        inner.entries.contains_key(key)
    }

    /// Removes the entries whose tokens name this key, so that those who wait for them learn it, and gives their
    /// decisions and what was left of their time.
    pub(crate) fn take_of(&self, key: &Key, now: Instant) -> Vec<(KeyedToken, Option<T>, Duration)> {
        let mut inner = self.inner.lock();
        inner.purge(now);
        let Inner { entries, ends, .. } = &mut *inner;
        let taken = entries.remove(key).into_iter().flatten();
        let taken = taken.map(|(token, entry)| {
            ends.remove(&entry.end);
            let decision = entry.decision.borrow().clone();
            (token, decision, entry.end.0.saturating_duration_since(now))
        });
        taken.collect()
    }

    /// Lets an entry end at `end`, if it does not end earlier anyway.
    pub(crate) fn end_by(&self, token: &KeyedToken, end: Instant) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.get_mut(token) else { return };
        if end < entry.end.0 {
            let before = entry.end;
            let after = (end, before.1);
            entry.end = after;
            inner.ends.remove(&before);
            inner.ends.insert(after, token.clone());
        }
    }

    /// Removes what has ended, so that those who wait for it learn it.
    pub(crate) fn purge(&self, now: Instant) {
        self.inner.lock().purge(now);
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().ends.len()
    }
}

impl<T> Inner<T> {
    fn get(&self, token: &KeyedToken) -> Option<&Entry<T>> {
        self.entries.get(token.key_text())?.get(token)
    }

    fn get_mut(&mut self, token: &KeyedToken) -> Option<&mut Entry<T>> {
        self.entries.get_mut(token.key_text())?.get_mut(token)
    }

    fn remove(&mut self, token: &KeyedToken) {
        let hash_map::Entry::Occupied(mut of_key) = self.entries.entry(token.key()) else { return };
        if let Some(entry) = of_key.get_mut().remove(token) {
            self.ends.remove(&entry.end);
        }
        if of_key.get().is_empty() {
            of_key.remove();
        }
    }

    fn purge(&mut self, now: Instant) {
        while let Some((_, token)) = self.ends.first_key_value().filter(|((end, _), _)| *end <= now) {
            let token = token.clone();
            self.remove(&token);
        }
    }
}

impl<T: Clone> Poll<T> {
    /// Whether the decision is there.
    pub(crate) fn is_decided(&self) -> bool {
        self.decision.borrow().is_some()
    }

    /// The decision, `None` when the entry ended without one. Cancel safe.
    pub(crate) async fn decided(&mut self) -> Option<T> {
        // An error means that the entry has ended; a decision may have come just before.
        let _ = self.decision.wait_for(Option::is_some).await;
        self.decision.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_wire::Key;

    const SECOND: Duration = Duration::from_secs(1);

    fn token(number: u8) -> KeyedToken {
        KeyedToken::mint(&Key::parse("room").unwrap(), &[number; 32])
    }

    #[test]
    fn a_full_table_refuses_until_an_entry_ends() {
        let table = PendingTable::<u8>::new(2, 10 * SECOND);
        let start = Instant::now();
        table.open(token(1), start).unwrap();
        table.open(token(2), start + SECOND).unwrap();
        assert_eq!(table.open(token(3), start + 9 * SECOND), Err(TableFull));
        assert_eq!(table.open(token(3), start + 10 * SECOND), Ok(()));
        assert!(!table.contains(&token(1), start + 10 * SECOND));
        assert_eq!(table.len(), 2);
    }

    #[tokio::test]
    async fn a_decision_reaches_those_who_poll_and_those_who_come_later() {
        let table = PendingTable::new(2, 10 * SECOND);
        let now = Instant::now();
        table.open(token(1), now).unwrap();
        let mut early = table.poll(&token(1), now).unwrap();
        assert!(table.decide(&token(1), "yes", now));
        assert!(!table.decide(&token(1), "no", now));
        let mut late = table.poll(&token(1), now).unwrap();
        assert_eq!((early.decided().await, late.decided().await), (Some("yes"), Some("yes")));
        assert_eq!((early.is_first, late.is_first), (true, false));
    }

    #[tokio::test]
    async fn who_polls_an_entry_that_ends_learns_it() {
        let table = PendingTable::<u8>::new(2, 10 * SECOND);
        let now = Instant::now();
        table.open(token(1), now).unwrap();
        let mut poll = table.poll(&token(1), now).unwrap();
        table.purge(now + 10 * SECOND);
        assert_eq!(poll.decided().await, None);
        assert!(!table.decide(&token(1), 1, now));
        assert!(table.poll(&token(1), now).is_none());
    }

    #[test]
    fn an_entry_can_be_let_go_earlier_but_not_later() {
        let table = PendingTable::<u8>::new(2, 10 * SECOND);
        let now = Instant::now();
        table.open(token(1), now).unwrap();
        table.end_by(&token(1), now + 20 * SECOND);
        table.end_by(&token(1), now + 3 * SECOND);
        assert!(table.contains(&token(1), now + 2 * SECOND));
        assert!(!table.contains(&token(1), now + 3 * SECOND));
        assert_eq!(table.len(), 0);
    }

    #[tokio::test]
    async fn entries_are_found_by_the_keys_that_their_tokens_name() {
        let table = PendingTable::new(4, 10 * SECOND);
        let now = Instant::now();
        let key = |text: &str| Key::parse(text).unwrap();
        let other = KeyedToken::mint(&key("room.2"), &[1; 32]);
        for token in [token(1), token(2), other.clone()] {
            table.open(token, now).unwrap();
        }
        table.decide(&token(2), "yes", now);
        assert_eq!(table.decided_of(&key("room"), now), [(token(2), "yes", 10 * SECOND)]);
        let mut poll = table.poll(&token(1), now).unwrap();
        let mut taken = table.take_of(&key("room"), now);
        taken.sort_by_key(|(_, decision, _)| *decision);
        assert_eq!(taken, [(token(1), None, 10 * SECOND), (token(2), Some("yes"), 10 * SECOND)]);
        assert_eq!(poll.decided().await, None);
        assert!(!table.has_any_of(&key("room"), now) && table.has_any_of(&key("room.2"), now));
        assert_eq!((table.len(), table.keys(now)), (1, vec![key("room.2")]));
        table.purge(now + 10 * SECOND);
        assert!(!table.has_any_of(&key("room.2"), now) && table.inner.lock().entries.is_empty());
    }

    #[test]
    fn an_entry_that_is_opened_again_lasts_as_long_as_a_fresh_one() {
        let table = PendingTable::<u8>::new(2, 10 * SECOND);
        let now = Instant::now();
        table.open(token(1), now).unwrap();
        table.open(token(1), now + 5 * SECOND).unwrap();
        assert!(table.contains(&token(1), now + 12 * SECOND));
        assert_eq!(table.len(), 1);
    }
}
