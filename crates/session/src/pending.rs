//! The table of what waits for a response.

use std::collections::VecDeque;
use std::time::Instant;

/// How many answered entries are kept in place before the table is closed up.
const HOLES_MAX: usize = 64;

/// What waits for a response, each under an id and until a deadline.
///
/// Ids rise, and so do deadlines because all entries of one table wait equally long. So one queue in the order of
/// insertion serves both: a response is found by binary search, and what expires is at the front. What was answered
/// leaves a hole; holes are closed when they outnumber what waits.
#[derive(Debug, Clone)]
pub(crate) struct Pending<T> {
    queue: VecDeque<Waiting<T>>,
    live: usize,
}

#[derive(Debug, Clone)]
struct Waiting<T> {
    id: u64,
    deadline: Instant,
    value: Option<T>,
}

impl<T> Pending<T> {
    pub(crate) fn new() -> Self {
        Self { queue: VecDeque::new(), live: 0 }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Adds what waits. `id` and `deadline` must not be lower than those before.
    pub(crate) fn insert(&mut self, id: u64, deadline: Instant, value: T) {
        debug_assert!(self.queue.back().is_none_or(|last| last.id < id && last.deadline <= deadline));
        self.queue.push_back(Waiting { id, deadline, value: Some(value) });
        self.live += 1;
    }

    /// What waits under `id`.
    pub(crate) fn find(&self, id: u64) -> Option<&T> {
        let at = self.queue.binary_search_by_key(&id, |waiting| waiting.id).ok()?;
        self.queue[at].value.as_ref()
    }

    /// Everything that waits, oldest first: its id, its deadline, itself.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Instant, &T)> {
        self.queue.iter().filter_map(|waiting| Some((waiting.id, waiting.deadline, waiting.value.as_ref()?)))
    }

    /// Takes what waits under `id`.
    pub(crate) fn take(&mut self, id: u64) -> Option<T> {
        let at = self.queue.binary_search_by_key(&id, |waiting| waiting.id).ok()?;
        let value = self.queue[at].value.take()?;
        self.live -= 1;
        self.close_up();
        Some(value)
    }

    /// When the next one expires.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|waiting| waiting.deadline)
    }

    /// Takes one that has expired, oldest first.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<(u64, T)> {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let expired = self.queue.pop_front()?;
            if let Some(value) = expired.value {
                self.live -= 1;
                self.close_up();
                return Some((expired.id, value));
            }
        }
        None
    }

    /// Takes all that match, oldest first.
    pub(crate) fn take_matching(&mut self, matches: impl Fn(&T) -> bool) -> Vec<(u64, T)> {
        let mut taken = Vec::new();
        for waiting in &mut self.queue {
            if waiting.value.as_ref().is_some_and(&matches)
                && let Some(value) = waiting.value.take()
            {
                taken.push((waiting.id, value));
            }
        }
        self.live -= taken.len();
        self.close_up();
        taken
    }

    /// Keeps a waiting one at the front, so that the next deadline is one that matters, and bounds the holes.
    fn close_up(&mut self) {
        while self.queue.front().is_some_and(|waiting| waiting.value.is_none()) {
            self.queue.pop_front();
        }
        if self.queue.len() > 2 * self.live + HOLES_MAX {
            self.queue.retain(|waiting| waiting.value.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn filled(start: Instant, ids: std::ops::Range<u64>) -> Pending<u64> {
        let mut pending = Pending::new();
        for id in ids {
            pending.insert(id, start + Duration::from_secs(id), id * 10);
        }
        pending
    }

    #[test]
    fn what_waits_is_found_once_by_its_id() {
        let mut pending = filled(Instant::now(), 1..100);
        assert_eq!(pending.find(50), Some(&500));
        assert_eq!((pending.take(50), pending.take(50), pending.find(50)), (Some(500), None, None));
        assert_eq!((pending.take(0), pending.take(100)), (None, None));
        assert_eq!(pending.len(), 98);
    }

    #[test]
    fn what_expires_comes_oldest_first_without_what_was_answered() {
        let start = Instant::now();
        let mut pending = filled(start, 1..10);
        assert_eq!(pending.take(1), Some(10));
        assert_eq!(pending.next_deadline(), Some(start + Duration::from_secs(2)));
        assert_eq!(pending.take(3), Some(30));
        let expired: Vec<_> = std::iter::from_fn(|| pending.take_expired(start + Duration::from_secs(4))).collect();
        assert_eq!(expired, [(2, 20), (4, 40)]);
        assert_eq!(pending.next_deadline(), Some(start + Duration::from_secs(5)));
    }

    #[test]
    fn holes_behind_one_that_waits_long_are_bounded() {
        let mut pending = filled(Instant::now(), 1..10_000);
        for id in 2..10_000 {
            assert_eq!(pending.take(id), Some(id * 10));
        }
        assert_eq!(pending.len(), 1);
        assert!(pending.queue.len() <= 2 + HOLES_MAX, "{}", pending.queue.len());
        assert_eq!(pending.take(1), Some(10));
        assert_eq!(pending.next_deadline(), None);
    }

    #[test]
    fn all_that_match_are_taken_at_once() {
        let mut pending = filled(Instant::now(), 1..6);
        assert_eq!(pending.take_matching(|value| value % 20 == 0), [(2, 20), (4, 40)]);
        assert_eq!(pending.len(), 3);
        assert_eq!(pending.find(3), Some(&30));
    }
}
