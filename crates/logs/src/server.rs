//! The server log: what the program says of itself, for people or as JSON, through `tracing`.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Where the server log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The standard error stream. Under a supervisor or a container runtime this is what is collected.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// Installs the server log for the whole process. Call it once, before anything is worth logging.
///
/// Events of our own crates are written from `level` on; those of libraries from `warn` on, unless `level` asks for
/// less, because at `info` they tell what no operator asked for.
pub fn init(format: Format, level: Level, destination: &Destination) -> io::Result<()> {
    let (writer, is_terminal) = match destination {
        Destination::Stderr => (BoxMakeWriter::new(io::stderr), io::IsTerminal::is_terminal(&io::stderr())),
        Destination::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
    };
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter(level)).with_writer(writer).with_ansi(is_terminal);
    let installed = match format {
        Format::Human => subscriber.finish().try_init(),
        Format::Json => subscriber.json().flatten_event(true).finish().try_init(),
    };
    installed.map_err(io::Error::other)
}

/// A directive matches every target that begins with it, so that `ctedge` names all crates of this workspace.
fn filter(level: Level) -> EnvFilter {
    let of_libraries = level.min(Level::Warn);
    EnvFilter::new(format!("{},ctedge={}", of_libraries.as_str(), level.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

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
