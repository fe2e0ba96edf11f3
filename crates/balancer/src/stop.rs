//! The phases of a balancer's life, and who still runs in them.

use std::sync::Arc;

use tokio::sync::watch;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is served.
    Serving,
    /// A successor accepts connections. Those that are open are served until they end; each is asked for no more than one
    /// further request.
    Retiring,
    /// The balancer ends. Whoever is here is sent away by the nodes; whoever comes is to come again later.
    Leaving,
    /// No connection is accepted; what runs is finished.
    Stopping,
    /// The time is over: tunnels say goodbye and what still runs is cut.
    Cutting,
    /// Threads end.
    Ended,
}

impl Phase {
    /// Whether the ports are open. Those of a retiring balancer are its successor's.
    pub(crate) fn accepts(self) -> bool {
        matches!(self, Self::Serving | Self::Leaving)
    }
}

/// Tells everybody the phase.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<watch::Sender<Phase>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }
}

impl Stop {
    /// Enters a phase. There is no way back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }

    /// The phase of this moment.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Learns of every phase.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}
