//! Wakes every connection when the node stops.
//!
//! A connection is polled for each message; waiting on a channel of its own for the one stop of its life would cost it
//! a lock each time. It looks at a flag instead, and leaves its waker here once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::stop::StopSignal;

/// From the stop to the first close: a moment in which everybody's messages are still read, relayed and written.
/// A message whose receiver is closed before it was read would be lost with the node.
pub(super) const SETTLE: Duration = Duration::from_millis(100);

/// Whether the node stops, and whom to wake then.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    is_stopping: AtomicBool,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    wakers: HashMap<u64, Waker>,
    next_id: u64,
}

/// A connection's place in the registry; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Registration {
    stopping: Arc<Stopping>,
    id: u64,
}

impl Stopping {
    /// Waits for `signal` in a task of its own.
    pub(super) fn watch(mut signal: StopSignal) -> Arc<Self> {
        let stopping = Arc::new(Self::default());
        let watched: Weak<Self> = Arc::downgrade(&stopping);
        tokio::spawn(async move {
            signal.stopped().await;
            if let Some(stopping) = watched.upgrade() {
                stopping.stop();
            }
        });
        stopping
    }

    /// Whether the node stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Wakes `waker` when the node stops. Look at [`Self::is_stopping`] after it: a stop that came before wakes nobody.
    pub(super) fn register(self: &Arc<Self>, waker: &Waker) -> Registration {
        let mut registry = self.registry.lock();
        let id = registry.next_id;
        registry.next_id += 1;
        registry.wakers.insert(id, waker.clone());
        Registration { stopping: Arc::clone(self), id }
    }

    fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        let wakers: Vec<Waker> = self.registry.lock().wakers.values().cloned().collect();
        wakers.iter().for_each(Waker::wake_by_ref);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.stopping.registry.lock().wakers.remove(&self.id);
    }
}
