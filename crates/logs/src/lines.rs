//! Events of `tracing` as lines of the operators' log files.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::file::{LogFile, Rotation};
use crate::zone::{Style, Zone};

/// Which events a file takes, and the form of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `server.log`: what the program says of itself, in the form that scripts of the original look for.
    ///
    /// ```text
    /// 2026-11-24 21:05:00.123 +0000 root INFO Valid CodeTogether license installed
    /// ```
    Server,
    /// `error.log`: what failed and what was refused, as nginx writes it.
    ///
    /// ```text
    /// 2026/11/24 21:05:00 [error] 4711#0: no node answered request_id=…
    /// ```
    Error,
    /// `sessions.log`: what became of sessions.
    ///
    /// ```text
    /// 2026-11-24 21:05:00.123 +0000 joined session=… user="Ada" client="…"
    /// ```
    Sessions,
}

impl Kind {
    fn setting(self) -> &'static str {
        match self {
            Self::Server => "log.server",
            Self::Error => "log.error",
            Self::Sessions => "log.sessions",
        }
    }
}

/// The target of the session audit's events. Their field `event` says what happened.
const SESSIONS: &str = "sessions";

/// Appends events to a file.
pub(crate) struct FileLayer {
    kind: Kind,
    zone: Zone,
    file: Mutex<LogFile>,
}

impl FileLayer {
    pub(crate) fn open(kind: Kind, path: &Path, rotation: Rotation, zone: Zone) -> std::io::Result<Self> {
        Ok(Self { kind, zone, file: Mutex::new(LogFile::open(kind.setting(), path, rotation)?) })
    }

    /// Goes on in the file of that name. What fails is told on stderr: it cannot be told in the file.
    pub(crate) fn reopen(&self) {
        if let Err(error) = self.file.lock().reopen() {
            eprintln!("a log file cannot be opened again, it goes on where it was: {error}");
        }
    }

    fn takes(&self, event: &Event<'_>) -> bool {
        let is_audit = event.metadata().target() == SESSIONS;
        match self.kind {
            Kind::Sessions => is_audit,
            Kind::Server => !is_audit,
            Kind::Error => !is_audit && *event.metadata().level() <= Level::WARN,
        }
    }

    fn line(&self, event: &Event<'_>) -> String {
        let mut text = Text::default();
        event.record(&mut text);
        let mut line = String::new();
        let now = SystemTime::now();
        let level = event.metadata().level();
        match self.kind {
            Kind::Server => {
                self.zone.write(&mut line, now, Style::Server);
                let _ = write!(line, " root {level} {}", text.message);
            }
            Kind::Error => {
                self.zone.write(&mut line, now, Style::Error);
                let level = if *level == Level::ERROR { "error" } else { "warn" };
                let _ = write!(line, " [{level}] {}#0: {}", std::process::id(), text.message);
            }
            Kind::Sessions => {
                self.zone.write(&mut line, now, Style::Server);
                let _ = write!(line, " {}", text.event);
            }
        }
        line.push_str(&text.fields);
        line.push('\n');
        line
    }
}

impl<S: Subscriber> Layer<S> for &'static FileLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !self.takes(event) {
            return;
        }
        let line = self.line(event);
        let mut file = self.file.lock();
        // A disk that takes no line must not stop what is logged; stderr has the event as well.
        let _ = file.append(line.as_bytes());
        let trouble = file.trouble();
        drop(file);
        if let Some(trouble) = trouble {
            // It comes back here for the same file, which has no more trouble to tell then.
            tracing::error!(target: "server", "{trouble}");
        }
    }
}

/// The parts of an event's line.
#[derive(Default)]
struct Text {
    message: String,
    event: String,
    fields: String,
}

impl Text {
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let result = match field.name() {
            "message" => self.message.write_fmt(value),
            "event" => self.event.write_fmt(value),
            name => write!(self.fields, " {name}={}", OneLine(value)),
        };
        debug_assert!(result.is_ok(), "a value of {} cannot be written", field.name());
        if field.name() == "message" {
            // A message may quote a stranger.
            self.message = self.message.replace(['\n', '\r'], " ");
        }
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            // A word stays a word; anything else is quoted, so that no value can pretend to be another field.
            "message" | "event" => self.put(field, format_args!("{value}")),
            _ if is_word(value) => self.put(field, format_args!("{value}")),
            _ => self.put(field, format_args!("{value:?}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

fn is_word(value: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    !value.is_empty() && value.bytes().all(is_plain)
}

/// Writes a value without line breaks, whatever its own form has.
struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Flat<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Flat<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.split_inclusive(['\n', '\r']).try_for_each(|part| {
                    let kept = part.trim_end_matches(['\n', '\r']);
                    self.0.write_str(kept)?;
                    if kept.len() < part.len() { self.0.write_char(' ') } else { Ok(()) }
                })
            }
        }
        Flat(formatter).write_fmt(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt;

    /// The lines that a file of this kind has after `log` ran, without their times.
    fn lines(kind: Kind, log: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let rotation = Rotation { bytes_max: 1 << 20, age_max: Duration::from_secs(3600), kept: 1 };
        let layer: &'static FileLayer =
            Box::leak(Box::new(FileLayer::open(kind, &path, rotation, Zone::default()).unwrap()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let text = std::fs::read_to_string(&path).unwrap();
        let words_of_time = if kind == Kind::Error { 2 } else { 3 };
        text.lines().map(|line| line.splitn(words_of_time + 1, ' ').last().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_lines_that_scripts_look_for_stand_in_the_server_log() {
        let log = || {
            tracing::info!(target: "server", "Valid CodeTogether license installed");
            tracing::warn!(node = "node-1", count = 3, "something\nwith two lines");
            tracing::info!(target: "sessions", event = "created");
        };
        assert_eq!(
            lines(Kind::Server, log),
            [
                "root INFO Valid CodeTogether license installed",
                "root WARN something with two lines node=node-1 count=3"
            ]
        );
    }

    #[test]
    fn the_error_log_is_written_as_nginx_does() {
        let log = || {
            tracing::info!("all is well");
            tracing::error!(path = "/a b", "no node answered");
        };
        let expected = format!("[error] {}#0: no node answered path=\"/a b\"", std::process::id());
        assert_eq!(lines(Kind::Error, log), [expected]);
    }

    #[test]
    fn no_name_that_a_stranger_chose_forges_a_line_or_a_field() {
        let user = "Eve\n2026 created session=forged";
        let log = || {
            tracing::info!(target: "sessions", event = "joined", session = "room", user, client = ?user);
            tracing::info!("not of a session");
        };
        assert_eq!(
            lines(Kind::Sessions, log),
            [
                "joined session=room user=\"Eve\\n2026 created session=forged\" client=\"Eve\\n2026 created session=forged\""
            ]
        );
    }
}
