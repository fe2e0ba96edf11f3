//! The logs.

use std::path::PathBuf;
use std::time::Duration;

/// The logs. A file that is `None` is switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How the log is written to stderr.
    pub format: LogFormat,
    /// The least severe events that are written.
    pub level: LogLevel,
    /// The time zone of all lines: a name of the IANA time zone database.
    pub time_zone: String,
    /// What the edge says of itself.
    pub server: Option<PathBuf>,
    /// What became of sessions.
    pub sessions: Option<PathBuf>,
    /// How many users there are.
    pub usage: Option<PathBuf>,
    /// The time between two lines of that.
    pub usage_interval: Duration,
    /// One line a request.
    pub access: Option<PathBuf>,
    /// What failed.
    pub error: Option<PathBuf>,
    /// When the files are set aside.
    pub rotation: LogRotation,
}

impl Default for LogSettings {
    /// Stderr alone, for people.
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            level: LogLevel::Info,
            time_zone: "UTC".into(),
            server: None,
            sessions: None,
            usage: None,
            usage_interval: Duration::from_secs(5 * 60),
            access: None,
            error: None,
            rotation: LogRotation { bytes_max: u64::MAX, age_max: Duration::MAX, kept: 0 },
        }
    }
}

/// When log files are set aside, and how many of these are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// Bytes from which on a file is set aside.
    pub bytes_max: u64,
    /// The age from which on a file is set aside.
    pub age_max: Duration,
    /// How many set-aside files are kept of each log.
    pub kept: u32,
}

/// How the server log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How severe an event of the server log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What will fail, or was refused.
    Warn,
    /// What an operator wants to know of every day.
    Info,
    /// What explains a misbehaviour.
    Debug,
    /// Every step.
    Trace,
}
