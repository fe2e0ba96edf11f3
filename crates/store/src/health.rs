//! How the store does, for health reports and metrics.
//!
//! Only what changes the store shows that it is well: a full disk and a locked file still let everybody read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ctedge_wire::health::StoreState;
use parking_lot::Mutex;

use crate::dialect::Access;
use crate::fault::{Fault, FaultKind};

/// How the store does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// As the last answer showed it.
    pub state: StoreState,
    /// How long an answer takes, averaged over the last ones. Zero before the first.
    pub latency: Duration,
    /// Transactions that were asked for.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// What is written behind the messages.
    pub journal: JournalHealth,
    /// What of that is noted on this machine until it is written.
    pub notes: NotesHealth,
}

/// How the notes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotesHealth {
    /// Bytes that are noted.
    pub bytes: u64,
    /// How often notes were given up that the store may not have had: for lack of room, or because a file failed.
    pub dropped: u64,
}

/// How the journal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalHealth {
    /// Entries that wait, those being written included.
    pub entries: u64,
    /// Entries that were written.
    pub written: u64,
    /// Entries that came too late: their session has another owner. Nothing is lost with them.
    pub fenced: u64,
    /// Audit entries that found no room to wait.
    pub dropped_audit: u64,
    /// Usage samples and downloads that found no room to wait.
    pub dropped_usage: u64,
    /// Entries about peers and requests in flight that found no room to wait.
    pub dropped_sessions: u64,
    /// Entries that the database refused for what they are.
    pub refused: u64,
}

impl JournalHealth {
    /// Everything that was lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.dropped_audit + self.dropped_usage + self.dropped_sessions + self.refused
    }
}

/// Watches the answers of the store.
pub(crate) struct Watch {
    /// An answer that takes longer is late.
    slow_after: Duration,
    calls: AtomicU64,
    failures: AtomicU64,
    seen: Mutex<Seen>,
}

struct Seen {
    state: StoreState,
    latency: Duration,
}

impl Watch {
    /// An answer counts as late when it takes a quarter of the time after which it would count as none.
    pub(crate) fn new(timeout: Duration) -> Self {
        let seen = Seen { state: StoreState::Ok, latency: Duration::ZERO };
        Self { slow_after: timeout / 4, calls: AtomicU64::new(0), failures: AtomicU64::new(0), seen: Mutex::new(seen) }
    }

    /// Takes note of how a transaction ended.
    pub(crate) fn ended<T>(&self, access: Access, started: Instant, result: &Result<T, Fault>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(_) if access == Access::Read => {}
            Ok(_) => self.answered(started.elapsed()),
            Err(fault) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.failed(fault);
            }
        }
    }

    fn answered(&self, latency: Duration) {
        let mut seen = self.seen.lock();
        // Each answer counts an eighth.
        seen.latency = if seen.latency.is_zero() { latency } else { (seen.latency * 7 + latency) / 8 };
        let state = if latency > self.slow_after { StoreState::Slow } else { StoreState::Ok };
        if std::mem::replace(&mut seen.state, state) != state {
            match state {
                StoreState::Ok => tracing::info!(?latency, "the store answers in time again"),
                _ => tracing::warn!(?latency, "the store answers late"),
            }
        }
    }

    fn failed(&self, fault: &Fault) {
        let state = match fault.kind {
            FaultKind::Busy | FaultKind::Slow => StoreState::Slow,
            FaultKind::Full => StoreState::Full,
            FaultKind::Unreachable | FaultKind::Broken => StoreState::Unreachable,
            // The values were at fault, not the store.
            FaultKind::Refused => {
                return tracing::error!(problem = fault.problem, "the store refused what it was given");
            }
        };
        let before = std::mem::replace(&mut self.seen.lock().state, state);
        if before != state {
            tracing::warn!(state = state.as_str(), problem = fault.problem, "the store fails");
        }
    }

    pub(crate) fn state(&self) -> StoreState {
        self.seen.lock().state
    }

    pub(crate) fn health(&self, journal: JournalHealth, notes: NotesHealth) -> StoreHealth {
        let seen = self.seen.lock();
        StoreHealth {
            state: seen.state,
            latency: seen.latency,
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            journal,
            notes,
        }
    }
}
