//! One task that wakes the sessions of a node.
//!
//! A session has at most one entry here. An entry may be early, never late: what moved a deadline back leaves the entry
//! as it is, and the session sees by itself that nothing is due. Requests are the reason: each would move the entry.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::cell::SessionCell;

/// An entry's place: its time, and a number that tells entries of one instant apart.
pub(super) type Deadline = (Instant, u64);

/// The entries by time.
pub(super) struct Timers {
    queue: Mutex<Queue>,
    /// Tells the task that the first entry has changed.
    earlier: Notify,
}

#[derive(Default)]
struct Queue {
    entries: BTreeMap<Deadline, Weak<SessionCell>>,
    numbered: u64,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::default(), earlier: Notify::new() }
    }

    /// Moves the entry at `before`, if there is one, to `at`.
    pub(super) fn schedule(&self, before: Option<Deadline>, at: Instant, cell: &Arc<SessionCell>) -> Deadline {
        let mut queue = self.queue.lock();
        if let Some(before) = before {
            queue.entries.remove(&before);
        }
        queue.numbered += 1;
        let deadline = (at, queue.numbered);
        let is_first = queue.entries.first_key_value().is_none_or(|(first, _)| deadline < *first);
        queue.entries.insert(deadline, Arc::downgrade(cell));
        drop(queue);
        if is_first {
            self.earlier.notify_one();
        }
        deadline
    }

    /// Waits until something is due, and takes it. At least one entry, though its session may be gone. Cancel safe.
    pub(super) async fn due(&self) -> Vec<(Deadline, Arc<SessionCell>)> {
        loop {
            let next = self.queue.lock().entries.first_key_value().map(|((at, _), _)| *at);
            match next {
                Some(at) if at <= Instant::now() => return self.take_due(Instant::now()),
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {}
                        () = self.earlier.notified() => {}
                    }
                }
                None => self.earlier.notified().await,
            }
        }
    }

    fn take_due(&self, now: Instant) -> Vec<(Deadline, Arc<SessionCell>)> {
        let mut queue = self.queue.lock();
        let mut due = Vec::new();
        while let Some(first) = queue.entries.first_entry() {
            if first.key().0 > now {
                break;
            }
            let (deadline, cell) = first.remove_entry();
            due.extend(cell.upgrade().map(|cell| (deadline, cell)));
        }
        due
    }
}
