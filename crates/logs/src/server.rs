//! What the program says of itself through `tracing`: to stderr, for people or as JSON, and to the operators' files.

use std::path::PathBuf;
use std::time::SystemTime;
use std::{fmt, io};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::file::Rotation;
use crate::lines::{FileLayer, Kind};
use crate::zone::{Style, Zone};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line, for collectors.
    Json,
}

/// The least severe events that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// What failed.
    Error,
    /// What will fail, or was refused.
    Warn,
    /// What an operator wants to know of every day.
    #[default]
    Info,
    /// What explains a misbehaviour.
    Debug,
    /// Every step. Nothing per message is above this level.
    Trace,
}

impl Level {
    /// The word of the settings file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The files of the log, beside stderr. Each is written by every process of this machine that is told of it.
#[derive(Debug, Clone, Default)]
pub struct LogFiles {
    /// `server.log`: what the program says of itself, in the form of the original's.
    pub server: Option<PathBuf>,
    /// `sessions.log`: what became of sessions.
    pub sessions: Option<PathBuf>,
    /// `error.log`: warnings and errors in nginx's form.
    pub error: Option<PathBuf>,
}

/// The open log files of this process. Copies stand for the same files.
#[derive(Clone, Copy)]
pub struct Logs {
    files: &'static [FileLayer],
}

impl Logs {
    /// Opens every file again by its name, after they were moved.
    pub fn reopen(&self) {
        self.files.iter().for_each(FileLayer::reopen);
    }
}

/// Installs the log for the whole process. Call it once, before anything is worth logging.
///
/// Everything goes to stderr, where a supervisor or a container runtime collects it, and to the `files` as far as it
/// belongs there. Events of our own crates are written from `level` on; those of libraries from `warn` on, unless
/// `level` asks for less, because at `info` they tell what no operator asked for. The audit of sessions is complete at
/// any level.
pub fn init(format: Format, level: Level, files: &LogFiles, rotation: Rotation, zone: &Zone) -> io::Result<Logs> {
    let kinds = [(Kind::Server, &files.server), (Kind::Sessions, &files.sessions), (Kind::Error, &files.error)];
    let open = kinds
        .into_iter()
        .filter_map(|(kind, path)| path.as_deref().map(|path| FileLayer::open(kind, path, rotation, zone.clone())))
        .collect::<io::Result<Vec<_>>>()?;
    // They live as long as the process, which the log is installed for.
    let files: &'static [FileLayer] = Vec::leak(open);

    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_timer(Clock(zone.clone()));
    let layers = files.iter().map(|file| Layer::<Registry>::boxed(file)).collect::<Vec<_>>();
    let subscriber = tracing_subscriber::registry().with(layers).with(filter(level));
    let installed = match format {
        Format::Human => subscriber.with(stderr).try_init(),
        Format::Json => subscriber.with(stderr.json().flatten_event(true)).try_init(),
    };
    installed.map_err(io::Error::other)?;
    Ok(Logs { files })
}

/// The times of stderr's lines.
struct Clock(Zone);

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.write(&mut text, SystemTime::now(), Style::Server);
        writer.write_str(&text)
    }
}

/// A directive matches every target that begins with it, so that `ctedge` names all crates of this workspace. `server`
/// and `sessions` are the targets of lines that belong to no crate.
fn filter(level: Level) -> EnvFilter {
    let of_libraries = level.min(Level::Warn);
    let level = level.as_str();
    EnvFilter::new(format!("{},ctedge={level},server={level},sessions=info", of_libraries.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_are_heard_from_warnings_on() {
        let written = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(Level::Debug))
            .with_writer({
                let written = written.clone();
                move || written.clone()
            })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "ctedge_node::hub", "ours at debug");
            tracing::warn!(target: "hyper", "theirs at warn");
            tracing::info!(target: "hyper", "theirs at info");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ours at debug") && text.contains("theirs at warn"), "{text}");
        assert!(!text.contains("theirs at info"), "{text}");
    }
}
