//! The sessions by their keys, in shards, so that threads that look for different sessions rarely meet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ctedge_wire::Key;
use parking_lot::RwLock;

use super::cell::SessionCell;

/// More than a node has threads; a lookup holds a shard for less than a microsecond.
const SHARDS: usize = 16;

/// The sessions of a node, a bounded number.
pub(super) struct SessionTable {
    shards: [RwLock<HashMap<Key, Arc<SessionCell>>>; SHARDS],
    hasher: RandomState,
    count: AtomicUsize,
    count_max: usize,
}

/// What [`SessionTable::insert`] did.
pub(super) enum Insertion {
    /// The session is in the table.
    Inserted(Arc<SessionCell>),
    /// There is one under its key.
    InUse,
    /// There are as many as there may be.
    Full,
}

impl SessionTable {
    pub(super) fn new(count_max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            count_max,
        }
    }

    fn shard(&self, key: &Key) -> &RwLock<HashMap<Key, Arc<SessionCell>>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    pub(super) fn find(&self, key: &Key) -> Option<Arc<SessionCell>> {
        self.shard(key).read().get(key).cloned()
    }

    /// Puts the session that `begin` makes under `key`, if there is none.
    pub(super) fn insert(&self, key: &Key, begin: impl FnOnce() -> Arc<SessionCell>) -> Insertion {
        let mut shard = self.shard(key).write();
        let Entry::Vacant(place) = shard.entry(key.clone()) else { return Insertion::InUse };
        // Reserved before it is filled, so that the count never exceeds its maximum however many threads insert.
        let reserved = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < self.count_max).then_some(count + 1));
        if reserved.is_err() {
            return Insertion::Full;
        }
        Insertion::Inserted(Arc::clone(place.insert(begin())))
    }

    /// Removes this very session; another one under its key stays. Gives whether it was there.
    pub(super) fn remove(&self, cell: &Arc<SessionCell>) -> bool {
        let mut shard = self.shard(cell.key()).write();
        let is_here = shard.get(cell.key()).is_some_and(|found| Arc::ptr_eq(found, cell));
        if is_here {
            shard.remove(cell.key());
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        is_here
    }

    /// Puts a session under `key`, if there is none, even beyond the bound.
    pub(super) fn insert_whatever(&self, key: &Key, cell: &Arc<SessionCell>) -> bool {
        let mut shard = self.shard(key).write();
        let Entry::Vacant(place) = shard.entry(key.clone()) else { return false };
        self.count.fetch_add(1, Ordering::Relaxed);
        place.insert(Arc::clone(cell));
        true
    }

    /// Whether there are as many as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) >= self.count_max
    }

    /// All sessions.
    pub(super) fn all(&self) -> Vec<Arc<SessionCell>> {
        self.shards.iter().flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Visits every session. A shard is not held while its sessions are visited.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&SessionCell)) {
        for shard in &self.shards {
            let cells: Vec<_> = shard.read().values().cloned().collect();
            cells.iter().for_each(|cell| visit(cell));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_session::{Beginning, Session, SessionLimits};
    use std::time::{Duration, Instant};

    fn insert(table: &SessionTable, key: &str) -> Insertion {
        let key = Key::parse(key).unwrap();
        let beginning = Beginning::created(Duration::from_secs(1));
        table.insert(&key, || {
            let session = Session::new(key.clone(), SessionLimits::default(), beginning, &[0; 32], Instant::now());
            SessionCell::new(session, 0, 0)
        })
    }

    #[test]
    fn sessions_are_bounded_and_keys_are_unique() {
        let table = SessionTable::new(2);
        assert!(matches!(insert(&table, "a"), Insertion::Inserted(_)));
        assert!(matches!(insert(&table, "a"), Insertion::InUse));
        let Insertion::Inserted(b) = insert(&table, "b") else { panic!("there is room for two") };
        assert!(matches!(insert(&table, "c"), Insertion::Full));
        table.remove(&b);
        table.remove(&b);
        assert!(matches!(insert(&table, "c"), Insertion::Inserted(_)));
        assert!(matches!(insert(&table, "d"), Insertion::Full));
    }

    #[test]
    fn removing_an_old_session_leaves_its_successor() {
        let table = SessionTable::new(2);
        let Insertion::Inserted(old) = insert(&table, "a") else { panic!("there is room") };
        table.remove(&old);
        let Insertion::Inserted(successor) = insert(&table, "a") else { panic!("the key is free") };
        table.remove(&old);
        assert!(table.find(successor.key()).is_some_and(|found| Arc::ptr_eq(&found, &successor)));
    }
}
