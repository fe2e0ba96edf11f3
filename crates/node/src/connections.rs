//! The open transport connections of a node: how many there are, and the signal that closes them all.
//!
//! A transport takes a [`ConnectionSlot`] when its peer connects and keeps it until its last byte is out. The node's
//! stop waits until every slot is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::stop::{StopSignal, StopSwitch};

/// Counts the open transport connections against their maximum.
#[derive(Debug)]
pub struct Connections {
    open: watch::Sender<usize>,
    open_max: usize,
    present: AtomicUsize,
    stop: StopSwitch,
}

/// Somebody who is here: a poll that waits, or a WebSocket. Both end by themselves some time after their client has vanished. One who
/// polls has a connection between two polls as well, and still has it for a while after the last.
#[derive(Debug)]
pub(crate) struct Presence {
    connections: Arc<Connections>,
}

/// One open transport connection. Dropping it gives the slot back.
#[derive(Debug)]
pub struct ConnectionSlot {
    connections: Arc<Connections>,
}

impl Connections {
    pub(crate) fn new(open_max: usize) -> Arc<Self> {
        Arc::new(Self { open: watch::Sender::new(0), open_max, present: AtomicUsize::new(0), stop: StopSwitch::new() })
    }

    /// Somebody is here until the returned value is dropped.
    pub(crate) fn come(self: &Arc<Self>) -> Presence {
        self.present.fetch_add(1, Ordering::Relaxed);
        Presence { connections: Arc::clone(self) }
    }

    /// How many are here.
    #[must_use]
    pub fn present(&self) -> usize {
        self.present.load(Ordering::Relaxed)
    }

    /// A slot for one more connection, or `None` when the node is full or stopping.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Option<ConnectionSlot> {
        let mut opened = false;
        self.open.send_if_modified(|open| {
            opened = *open < self.open_max && !self.stop.is_stopping();
            *open += usize::from(opened);
            opened
        });
        opened.then(|| ConnectionSlot { connections: Arc::clone(self) })
    }

    /// How many connections are open.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.open.borrow()
    }

    /// Tells a transport when to flush what is owed and close politely.
    #[must_use]
    pub fn stop_signal(&self) -> StopSignal {
        self.stop.signal()
    }

    /// Asks every transport to close.
    pub(crate) fn close_all(&self) {
        self.stop.stop();
    }

    /// Completes when no connection is open.
    pub(crate) async fn all_closed(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.connections.present.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_come_back() {
        let connections = Connections::new(2);
        let first = connections.open().unwrap();
        let _second = connections.open().unwrap();
        assert!(connections.open().is_none());
        drop(first);
        assert_eq!(connections.count(), 1);
        assert!(connections.open().is_some());
    }

    #[tokio::test]
    async fn closing_refuses_further_connections_and_waits_for_the_open_ones() {
        let connections = Connections::new(2);
        let slot = connections.open().unwrap();
        let mut signal = connections.stop_signal();
        connections.close_all();
        signal.stopped().await;
        assert!(connections.open().is_none());
        let waiting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.all_closed().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(slot);
        waiting.await.unwrap();
    }
}
