//! What an operator orders, and how far it has come.

use std::time::Duration;

/// How a drain goes. Draining begins at once: the node takes no new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// When the sessions that are left are handed off; `Duration::ZERO` is at once, `None` never, like
    /// one that the clock cannot name.
    pub deadline: Option<Duration>,
    /// Whether the process ends when nothing is left. Only then is a session parked if no other node is ready; without,
    /// it stays until one is.
    pub exit: bool,
    /// Why its sessions are handed off.
    pub reason: HandoffReason,
}

/// Why a session is given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HandoffReason {
    /// The deadline of a drain has come.
    DrainDeadline,
    /// An operator drains the node at once.
    DrainNow,
    /// The node's process is to be replaced by another of the same node.
    Restart,
    /// The process was told to end.
    Stop,
    /// Nobody reaches the node.
    Deaf,
}

impl HandoffReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::DrainDeadline, Self::DrainNow, Self::Restart, Self::Stop, Self::Deaf];

    /// The word of logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DrainDeadline => "drain_deadline",
            Self::DrainNow => "drain_now",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Deaf => "deaf",
        }
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainProgress {
    /// What was ordered.
    pub drain: Drain,
    /// The time until handoffs begin. `None` without a deadline; zero once they have begun.
    pub deadline_left: Option<Duration>,
    /// Sessions that the node still owns, those being handed off included.
    pub sessions: usize,
    /// Those that are being handed off.
    pub moving: usize,
}
