//! A bounded table of what waits for somebody's decision: logins for their form, join requests for their host.
//!
//! Whoever waits holds the entry's token and polls with it. An entry ends at its time to live, decided or not; those who
//! wait for it then learn that it is gone.

use std::collections::{BTreeMap, HashMap};
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
    entries: HashMap<KeyedToken, Entry<T>>,
    /// The tokens by the end of their entries; the number tells entries of one instant apart.
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
        if inner.entries.len() >= self.entries_max {
            return Err(TableFull);
        }
        inner.opened += 1;
        let end = (now + self.time_to_live, inner.opened);
        inner.ends.insert(end, token.clone());
        inner.entries.insert(token, Entry { end, polled: false, decision: watch::Sender::new(None) });
        Ok(())
    }

    /// Whether the entry is there.
    pub(crate) fn contains(&self, token: &KeyedToken, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.purge(now);
        inner.entries.contains_key(token)
    }

    /// Decides an entry and wakes whoever polls it. `false` when there is none, or it is decided already: the first
    /// decision stands.
    pub(crate) fn decide(&self, token: &KeyedToken, decision: T, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.purge(now);
        let Some(entry) = inner.entries.get(token) else { return false };
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
        let entry = inner.entries.get_mut(token)?;
        let is_first = !std::mem::replace(&mut entry.polled, true);
        Some(Poll { is_first, decision: entry.decision.subscribe() })
    }

    /// The decided entries whose tokens name this key, with what is left of their time.
    pub(crate) fn decided_of(&self, key: &Key, now: Instant) -> Vec<(KeyedToken, T, Duration)> {
        let inner = self.inner.lock();
        let of_key = inner.entries.iter().filter(|(token, _)| token.key() == *key);
        let decided = of_key.filter_map(|(token, entry)| {
            let decision = entry.decision.borrow().clone()?;
            Some((token.clone(), decision, entry.end.0.saturating_duration_since(now)))
        });
        decided.collect()
    }

    /// The keys that the tokens of all entries name, some of them more than once.
    pub(crate) fn keys(&self, now: Instant) -> Vec<Key> {
        let mut inner = self.inner.lock();
        inner.purge(now);
        inner.entries.keys().map(KeyedToken::key).collect()
    }

    /// Removes the entries whose tokens name this key, so that those who wait for them learn it, and gives their
    /// decisions and what was left of their time.
    pub(crate) fn take_of(&self, key: &Key, now: Instant) -> Vec<(KeyedToken, Option<T>, Duration)> {
        let mut inner = self.inner.lock();
        inner.purge(now);
        let Inner { entries, ends, .. } = &mut *inner;
        let taken = entries.extract_if(|token, _| token.key() == *key);
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
        let Some(entry) = inner.entries.get_mut(token) else { return };
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
        self.inner.lock().entries.len()
    }
}

impl<T> Inner<T> {
    fn purge(&mut self, now: Instant) {
        while let Some(first) = self.ends.first_entry() {
            if first.key().0 > now {
                break;
            }
            self.entries.remove(&first.remove());
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
        assert_eq!(table.inner.lock().ends.len(), 0);
    }
}
