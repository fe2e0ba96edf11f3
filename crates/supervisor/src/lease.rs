//! The lease of a node process, ended as soon as the process is seen dead.
//!
//! Other nodes find a dead one out by its silence, which takes seconds. A supervisor knows at once, and for certain.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long the end of a lease may hold the next start of its node up: what a store takes that is well.
const START_HELD_MAX: Duration = Duration::from_millis(500);

/// How long one try may take.
const TRY: Duration = Duration::from_secs(2);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// After this long the other nodes have noticed by themselves, many times over.
const TRIED_MAX: Duration = Duration::from_secs(30);

/// Ends leases in the store. Whoever implements it knows where the store is.
pub trait Leases: Send + Sync {
    /// Ends the lease of the process that the node `node` was with this `incarnation`; the process is dead.
    fn end(&self, node: &str, incarnation: u64) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;
}

/// What one process of a node owns its sessions by.
pub(crate) struct Lease {
    node: String,
    incarnation: u64,
    leases: Arc<dyn Leases>,
}

impl Lease {
    /// A lease of the node `node` that no process had before.
    pub(crate) fn draw(node: &str, leases: &Arc<dyn Leases>) -> io::Result<Self> {
        let incarnation = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self { node: node.to_owned(), incarnation, leases: Arc::clone(leases) })
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Ends the lease: the process is dead. Returns when that is done, or is not done soon; then it goes on behind.
    pub(crate) async fn end(self) {
        // Running out of the time to wait leaves the task to itself.
        let _ = timeout(START_HELD_MAX, tokio::spawn(self.end_for_certain())).await;
    }

    async fn end_for_certain(self) {
        let begun = Instant::now();
        loop {
            let problem = match timeout(TRY, self.leases.end(&self.node, self.incarnation)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "the store is too slow".to_owned(),
            };
            if begun.elapsed() >= TRIED_MAX {
                tracing::warn!(node = self.node, "the other nodes were not told that {} died: {problem}", self.node);
                return;
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    /// A store that fails so often, and then says what it was told.
    struct Store(AtomicU32, UnboundedSender<(String, u64)>);

    impl Leases for Store {
        fn end(&self, node: &str, incarnation: u64) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
            let failing = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            if !failing {
                self.1.send((node.to_owned(), incarnation)).unwrap();
            }
            Box::pin(async move { if failing { Err(anyhow::anyhow!("away")) } else { Ok(()) } })
        }
    }

    fn store(failures: u32) -> (Arc<dyn Leases>, tokio::sync::mpsc::UnboundedReceiver<(String, u64)>) {
        let (sender, told) = unbounded_channel();
        (Arc::new(Store(AtomicU32::new(failures), sender)), told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_told_when_it_is_back_and_holds_the_start_up_only_shortly() {
        let (store, mut told) = store(20);
        let lease = Lease::draw("node-1", &store).unwrap();
        let (incarnation, begun) = (lease.incarnation(), Instant::now());
        lease.end().await;
        assert!(begun.elapsed() <= START_HELD_MAX, "{:?}", begun.elapsed());
        assert!(told.try_recv().is_err());
        assert_eq!(told.recv().await.unwrap(), ("node-1".to_owned(), incarnation));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_comes_back_is_not_asked_for_ever() {
        let (store, mut told) = store(u32::MAX);
        Lease::draw("node-1", &store).unwrap().end().await;
        drop(store);
        // The sender goes with the last holder of the store: the task that tries.
        assert_eq!(timeout(TRIED_MAX * 2, told.recv()).await, Ok(None));
    }

    #[test]
    fn no_two_leases_are_the_same() {
        let (store, _told) = store(0);
        let draw = || Lease::draw("node-1", &store).unwrap().incarnation();
        assert_ne!(draw(), draw());
    }
}
