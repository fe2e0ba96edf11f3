//! The drain of a node that shares its sessions with nobody: they end where they are, and the process with the last one.

use std::time::{Duration, Instant};

use ctedge_ownership::{Drain, DrainProgress};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hub::Hub;

/// How often a node that is to end looks whether its sessions have.
const LOOK: Duration = Duration::from_millis(200);

/// What was ordered of a node that shares nothing.
#[derive(Debug, Default)]
pub(crate) struct LoneDrain {
    ordered: Mutex<Option<Ordered>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Ordered {
    drain: Drain,
    deadline: Option<Instant>,
}

impl LoneDrain {
    /// Another order replaces the former one; `None` ends a drain.
    pub(crate) fn order(&self, drain: Option<Drain>) {
        let now = Instant::now();
        *self.ordered.lock() = drain.map(|drain| {
            let deadline = drain.deadline.and_then(|deadline| now.checked_add(deadline));
            Ordered { drain, deadline }
        });
        self.changed.notify_one();
    }

    /// How far the drain is, if there is one.
    pub(crate) fn progress(&self, sessions: usize) -> Option<DrainProgress> {
        let Ordered { drain, deadline } = (*self.ordered.lock())?;
        let deadline_left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        Some(DrainProgress { drain, deadline_left, sessions, moving: 0 })
    }

    /// Completes when a drain that ends the process has come to its deadline, or to the end of the last session. Cancel safe.
    pub(crate) async fn over(&self, hub: &Hub) {
        loop {
            match *self.ordered.lock() {
                Some(Ordered { drain: Drain { exit: true, .. }, deadline })
                    if hub.totals().sessions == 0 || deadline.is_some_and(|at| at <= Instant::now()) =>
                {
                    return;
                }
                _ => {}
            }
            let is_draining = self.ordered.lock().is_some();
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK), if is_draining => {}
            }
        }
    }
}
