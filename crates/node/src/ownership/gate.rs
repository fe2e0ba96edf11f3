//! The fence of a node as one number, so that each message can be held against it at the cost of a comparison.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use ctedge_ownership::Fence;
use parking_lot::Mutex;

use crate::clock;

/// Nobody else can own what this node has.
const FOR_EVER: u64 = u64::MAX;

/// Whether this node may serve what it has at this moment. While it may not, whoever wants to waits here: the node
/// finds out within a heartbeat.
#[derive(Debug)]
pub struct Gate {
    base: Instant,
    /// Nanoseconds after `base`.
    open_until: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    /// The gate of a node that shares its ownership with nobody.
    pub(crate) fn open() -> Self {
        Self { base: clock::awake_or_not(), open_until: AtomicU64::new(FOR_EVER), waiting: Mutex::default() }
    }

    /// The gate of a node whose fence has not been verified yet.
    pub(crate) fn closed() -> Self {
        Self { open_until: AtomicU64::new(0), ..Self::open() }
    }

    /// Whether the node may serve at `now`, by [`clock::awake_or_not`] as everything here.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.nanoseconds(now) < self.open_until.load(Ordering::Acquire)
    }

    /// Ready when the node may serve at `now`; registers the waker otherwise. Look again when woken: the gate may have
    /// closed since.
    pub fn poll_open(&self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.is_open(now) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        drop(waiting);
        // It may have opened before the waker was in its place.
        if self.is_open(now) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Completes when the node may serve. Cancel safe.
    pub async fn opened(&self) {
        std::future::poll_fn(|cx| self.poll_open(cx, clock::awake_or_not())).await;
    }

    /// Takes over what the fence says, and wakes who waits if it is open.
    pub(crate) fn publish(&self, fence: Fence, now: Instant) {
        let open_until = match fence {
            Fence::Closed => 0,
            Fence::OpenUntil(until) | Fence::CutOffUntil(until) => self.nanoseconds(until).min(FOR_EVER - 1),
        };
        self.open_until.store(open_until, Ordering::Release);
        if self.is_open(now) {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(FOR_EVER - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_gate_closes_by_itself_when_its_time_is_over() {
        let gate = Gate::closed();
        let now = clock::awake_or_not();
        assert!(!gate.is_open(now));
        gate.publish(Fence::OpenUntil(now + SECOND), now);
        assert!(gate.is_open(now) && !gate.is_open(now + SECOND));
        gate.publish(Fence::CutOffUntil(now + 2 * SECOND), now);
        assert!(gate.is_open(now + SECOND));
        gate.publish(Fence::Closed, now);
        assert!(!gate.is_open(now));
        assert!(Gate::open().is_open(now + 1000 * SECOND));
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_the_gate_opens() {
        let gate = std::sync::Arc::new(Gate::closed());
        let waiting = tokio::spawn({
            let gate = std::sync::Arc::clone(&gate);
            async move { gate.opened().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let now = clock::awake_or_not();
        gate.publish(Fence::OpenUntil(now), now);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a fence that is over already opens nothing");
        gate.publish(Fence::OpenUntil(now + 100 * SECOND), now);
        waiting.await.unwrap();
    }
}
