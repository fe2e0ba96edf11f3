//! What the node accepts, and how that changes.

use std::time::Instant;

use ctedge_wire::NodeStatus;
use parking_lot::Mutex;

/// The status of a node and the time of its start.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    status: NodeStatus,
    stopping: bool,
}

impl Status {
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, state: Mutex::new(State { status: NodeStatus::Ready, stopping: false }) }
    }

    /// What the node accepts.
    #[must_use]
    pub fn current(&self) -> NodeStatus {
        self.state.lock().status
    }

    /// Whether sessions that the node does not have may begin here.
    #[must_use]
    pub fn accepts_new(&self) -> bool {
        self.current() == NodeStatus::Ready
    }

    /// Whether the process is on its way out.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// An operator's change. A node that stops stays draining whatever the operator says.
    pub(crate) fn change(&self, status: NodeStatus) {
        let mut state = self.state.lock();
        if !state.stopping && state.status != status {
            tracing::info!(from = state.status.as_str(), to = status.as_str(), "the node's status changes");
            state.status = status;
        }
    }

    /// What the node's ownership has settled on.
    pub(crate) fn follow(&self, status: NodeStatus) {
        if self.current() != status {
            self.change(status);
        }
    }

    /// The process stops: draining, for good.
    pub(crate) fn stop(&self) {
        *self.state.lock() = State { status: NodeStatus::Draining, stopping: true };
    }

    /// Whole seconds since the start.
    pub(crate) fn uptime_seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_node_takes_new_sessions_and_an_operator_can_bring_it_back() {
        let status = Status::new(Instant::now());
        for other in [NodeStatus::Draining, NodeStatus::Suspended] {
            assert!(status.accepts_new());
            status.change(other);
            assert!(!status.accepts_new());
            status.change(NodeStatus::Ready);
        }
    }

    #[test]
    fn a_node_that_stops_cannot_be_resumed() {
        let status = Status::new(Instant::now());
        status.stop();
        status.change(NodeStatus::Ready);
        assert_eq!(status.current(), NodeStatus::Draining);
    }
}
