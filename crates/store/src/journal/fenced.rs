//! Sessions that are not their writer's any more, as the store said when it was written about them.

use std::collections::BTreeSet;

use ctedge_ownership::Epoch;
use ctedge_wire::Key;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a batch came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fenced {
    /// How many entries came too late.
    pub(crate) entries: u64,
    /// The sessions that a lease wrote about which lives and does not own them.
    pub(crate) sessions: BTreeSet<(Key, Epoch)>,
}

/// Lost sessions until somebody asks for them.
pub(super) struct LostSessions {
    /// One that finds no room is told of by the next entry about it.
    sessions_max: usize,
    untold: Mutex<BTreeSet<(Key, Epoch)>>,
    arrived: Notify,
}

impl LostSessions {
    pub(super) fn new(sessions_max: usize) -> Self {
        Self { sessions_max, untold: Mutex::default(), arrived: Notify::new() }
    }

    pub(super) fn add(&self, sessions: BTreeSet<(Key, Epoch)>) {
        if sessions.is_empty() {
            return;
        }
        let mut untold = self.untold.lock();
        let room = self.sessions_max.saturating_sub(untold.len());
        untold.extend(sessions.into_iter().take(room));
        drop(untold);
        self.arrived.notify_one();
    }

    /// Those that nobody was told of; waits for the first one. Cancel safe.
    pub(super) async fn next(&self) -> BTreeSet<(Key, Epoch)> {
        loop {
            let untold = std::mem::take(&mut *self.untold.lock());
            if !untold.is_empty() {
                return untold;
            }
            self.arrived.notified().await;
        }
    }
}
