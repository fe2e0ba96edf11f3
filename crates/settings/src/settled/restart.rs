//! How the processes of a machine are restarted.

use std::time::Duration;

use crate::cron::CronPattern;

/// How the processes of a machine are restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartSettings {
    /// When a rolling restart begins by itself. Minutes in a row that match are one occasion. `None` switches it off.
    pub schedule: Option<CronPattern>,
    /// How long a node may go on without handing a session off until it is stopped.
    pub handoff: Duration,
    /// How long a process that was started may take until it serves.
    pub ready: Duration,
}
