//! What waits to be written, bounded.
//!
//! Entries about sessions and records for the operator wait apart: a session's must not be lost for the sake of a record.
//! Each of the two keeps its order.

use std::collections::{HashMap, VecDeque};

use ctedge_wire::Key;

use crate::entry::Entry;
use crate::health::JournalHealth;

/// Entries that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries_max: usize,
    sessions: Line,
    records: Line,
    /// Where the last requests in flight of a session wait, by number.
    in_flight: HashMap<Key, u64>,
    dropped: JournalHealth,
}

/// How far the journal is, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalMark {
    sessions: u64,
    records: u64,
}

impl JournalMark {
    /// The same of sessions, and nothing of records.
    pub(crate) fn of_sessions(self) -> Self {
        Self { records: 0, ..self }
    }

    /// Whether everything up to `end` is done.
    #[must_use]
    pub fn reaches(&self, end: Self) -> bool {
        self.sessions >= end.sessions && self.records >= end.records
    }
}

/// Entries in their order, numbered.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Entry>,
    /// The number of the first that waits.
    first: u64,
    /// How many before that are being written.
    taken: usize,
}

impl Line {
    fn begin(&self) -> u64 {
        self.first - self.taken as u64
    }

    fn end(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    fn entries(&self) -> usize {
        self.waiting.len() + self.taken
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        self.first += 1;
        Some(entry)
    }
}

impl Queue {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max, ..Self::default() }
    }

    /// Takes an entry in. When there is no room, the oldest record goes; without one, the entry itself.
    pub(crate) fn push(&mut self, entry: Entry) {
        let Some(entry) = self.coalesced(entry) else {
            return;
        };
        if self.entries() >= self.entries_max && !self.make_room() {
            return self.drop_entry(&entry);
        }
        match &entry {
            Entry::Audit(_) | Entry::Usage(_) | Entry::Download(_) => self.records.waiting.push_back(entry),
            Entry::InFlight { key, .. } => {
                self.in_flight.insert(key.clone(), self.sessions.end());
                self.sessions.waiting.push_back(entry);
            }
            Entry::PeerJoined { .. } | Entry::PeerLeft { .. } | Entry::Requested { .. } => {
                self.sessions.waiting.push_back(entry);
            }
        }
    }

    /// Puts requests in flight in the place of those of the same session and epoch that still wait.
    fn coalesced(&mut self, entry: Entry) -> Option<Entry> {
        let Entry::InFlight { key, epoch, by, .. } = &entry else {
            return Some(entry);
        };
        let number = self.in_flight.get(key).copied().filter(|number| *number >= self.sessions.first);
        let waiting = number.and_then(|number| {
            let index = usize::try_from(number - self.sessions.first).ok()?;
            self.sessions.waiting.get_mut(index)
        });
        match waiting {
            Some(waiting) if matches!(&*waiting, Entry::InFlight { epoch: at, by: owner, .. } if at == epoch && owner == by) =>
            {
                *waiting = entry;
                None
            }
            _ => Some(entry),
        }
    }

    fn make_room(&mut self) -> bool {
        let Some(record) = self.records.pop() else {
            return false;
        };
        self.drop_entry(&record);
        true
    }

    fn drop_entry(&mut self, entry: &Entry) {
        let count = match entry {
            Entry::Audit(_) => &mut self.dropped.dropped_audit,
            Entry::Usage(_) | Entry::Download(_) => &mut self.dropped.dropped_usage,
            Entry::PeerJoined { .. } | Entry::PeerLeft { .. } | Entry::InFlight { .. } | Entry::Requested { .. } => {
                &mut self.dropped.dropped_sessions
            }
        };
        *count += 1;
        if count.is_power_of_two() {
            tracing::warn!(dropped = *count, "the journal is full and loses entries: the store is away for too long");
        }
    }

    /// Takes out at most `max` entries to be written, of each line its share. [`Queue::taken_are_done`] must follow.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        for line in [&mut self.sessions, &mut self.records] {
            let before = taken.len();
            while taken.len() - before < max / 2
                && let Some(entry) = line.pop()
            {
                taken.push(entry);
            }
            line.taken = taken.len() - before;
        }
        for entry in &taken {
            if let Entry::InFlight { key, .. } = entry
                && self.in_flight.get(key).is_some_and(|number| *number < self.sessions.first)
            {
                self.in_flight.remove(key);
            }
        }
        taken
    }

    /// What was taken is written. How far that brings it.
    pub(crate) fn taken_are_done(&mut self) -> JournalMark {
        (self.sessions.taken, self.records.taken) = (0, 0);
        self.begin()
    }

    /// The first entry of each line that is not done.
    pub(crate) fn begin(&self) -> JournalMark {
        JournalMark { sessions: self.sessions.begin(), records: self.records.begin() }
    }

    /// Where the next entry of each line will come to stand.
    pub(crate) fn end(&self) -> JournalMark {
        JournalMark { sessions: self.sessions.end(), records: self.records.end() }
    }

    /// How many wait, those being written included.
    pub(crate) fn entries(&self) -> usize {
        self.sessions.entries() + self.records.entries()
    }

    /// What was dropped for lack of room.
    pub(crate) fn dropped(&self) -> JournalHealth {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ctedge_ownership::{Epoch, LeaseId, NodeId};

    use super::*;
    use crate::entry::{Day, Download};

    fn in_flight(key: &str, epoch: u64, bytes: &'static str) -> Entry {
        let by = LeaseId::new(NodeId::new("n"), 1);
        let bytes = Some(Bytes::from_static(bytes.as_bytes()));
        Entry::InFlight { key: Key::parse(key).unwrap(), epoch: Epoch(epoch), by, bytes }
    }

    fn left(key: &str, clock: u64) -> Entry {
        let by = LeaseId::new(NodeId::new("n"), 1);
        Entry::PeerLeft { key: Key::parse(key).unwrap(), epoch: Epoch(1), by, clock }
    }

    fn download(version: &str) -> Entry {
        let day = Day { year: 2026, month: 1, day: 1 };
        Entry::Download(Download { day, ide: "x".into(), version: version.into(), artifact: "a".into() })
    }

    fn filled(entries_max: usize, entries: impl IntoIterator<Item = Entry>) -> Queue {
        let mut queue = Queue::new(entries_max);
        entries.into_iter().for_each(|entry| queue.push(entry));
        queue
    }

    #[test]
    fn requests_in_flight_of_one_session_wait_once() {
        let mut queue = filled(
            100,
            [
                in_flight("a", 1, "1"),
                left("a", 1),
                in_flight("b", 1, "2"),
                in_flight("a", 1, "3"),
                in_flight("a", 2, "4"),
            ],
        );
        let expected = vec![in_flight("a", 1, "3"), left("a", 1), in_flight("b", 1, "2"), in_flight("a", 2, "4")];
        assert_eq!(queue.take(100), expected);
    }

    #[test]
    fn what_is_being_written_is_not_changed_any_more() {
        let mut queue = filled(100, [in_flight("a", 1, "1")]);
        assert_eq!(queue.take(100), [in_flight("a", 1, "1")]);
        queue.push(in_flight("a", 1, "2"));
        assert_eq!(queue.entries(), 2);
        queue.taken_are_done();
        assert_eq!(queue.take(100), [in_flight("a", 1, "2")]);
        assert!(queue.in_flight.is_empty(), "a key is remembered only while it waits");
    }

    #[test]
    fn without_room_records_go_first_and_the_oldest_of_them() {
        let mut queue = filled(3, [download("1"), download("2"), left("a", 1), left("a", 2), download("3")]);
        assert_eq!(queue.take(100), [left("a", 1), left("a", 2), download("3")]);
        assert_eq!(queue.dropped().dropped_usage, 2);
        let queue = filled(2, [left("a", 1), left("a", 2), left("a", 3), download("1")]);
        let dropped = queue.dropped();
        assert_eq!((dropped.dropped_sessions, dropped.dropped_usage, queue.entries()), (1, 1, 2));
    }

    #[test]
    fn a_flush_waits_for_what_was_there_and_not_for_what_came_later() {
        let mut queue = filled(100, [left("a", 1), download("1")]);
        let end = queue.end();
        assert_eq!(queue.take(100).len(), 2);
        queue.push(left("a", 2));
        assert!(!queue.begin().reaches(end));
        assert!(queue.taken_are_done().reaches(end));
        let mut queue = filled(1, [download("1")]);
        let end = queue.end();
        queue.push(left("a", 1));
        assert!(queue.begin().reaches(end), "a record that was dropped is done with");
    }
}
