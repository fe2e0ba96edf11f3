//! What every long-running role does to its process: the server log, the limit on open files, the signals.

use anyhow::Context;
use ctedge_logs::{Destination, Format, Level};
use ctedge_settings::{LogFormat, LogLevel, LogSettings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Starts the server log on stderr, where supervisors and container runtimes collect it.
pub(crate) fn start_log(settings: &LogSettings) -> anyhow::Result<()> {
    let format = match settings.format {
        LogFormat::Human => Format::Human,
        LogFormat::Json => Format::Json,
    };
    let level = match settings.level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    };
    ctedge_logs::init(format, level, &Destination::Stderr).context("cannot start the server log")
}

/// Raises the soft limit on open files to the hard one: shells give 1024, which is few hundred tunnels.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit on open files cannot be raised");
    }
}

/// The signals that stop a role.
pub(crate) struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    /// Listens from here on: a signal between this and [`Self::received`] is not lost.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    /// Completes at SIGTERM or SIGINT.
    pub(crate) async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
