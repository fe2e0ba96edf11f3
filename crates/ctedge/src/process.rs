//! What every long-running role does to its process: the server log, the limit on open files, the signals.

use anyhow::Context;
use ctedge_logs::{Format, Level, LogFiles, Logs, Rotation, Zone};
use ctedge_settings::{LogFormat, LogLevel, LogRotation, LogSettings, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Starts the log, on stderr and in the files of the settings. The data folder, which most of these are in, is made before.
pub(crate) fn start_log(settings: &Settings) -> anyhow::Result<Logs> {
    ctedge_supervisor::make_folder(settings.data())?;
    let logs = open_log(&settings.log())?;
    ctedge_supervisor::warn_of_readers(settings.data());
    Ok(logs)
}

fn open_log(settings: &LogSettings) -> anyhow::Result<Logs> {
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
    let files = LogFiles {
        server: settings.server.clone(),
        sessions: settings.sessions.clone(),
        error: settings.error.clone(),
    };
    // The settings have made sure that there is such a zone.
    let zone = Zone::named(&settings.time_zone).unwrap_or_default();
    ctedge_logs::init(format, level, &files, rotation(settings), &zone).context("a log file cannot be written")
}

fn rotation(settings: &LogSettings) -> Rotation {
    let LogRotation { bytes_max, age_max, kept } = settings.rotation;
    Rotation { bytes_max, age_max, kept }
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

/// The signal that log files were moved, SIGUSR1. A process that does not listen for it is ended by it.
pub(crate) struct RotationSignal(tokio::signal::unix::Signal);

impl RotationSignal {
    /// Listens from here on: a signal between this and [`Self::obey`] is not lost.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        signal(SignalKind::user_defined1()).map(Self).context("cannot listen for SIGUSR1")
    }

    /// Calls `reopen` at each signal.
    pub(crate) async fn obey(mut self, reopen: impl Fn() + Send) {
        while self.0.recv().await.is_some() {
            reopen();
        }
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
