//! `[log]`: the log files, their forms and how long they are kept.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZoneDatabase;

use super::units::{hours, minutes, seconds};
use crate::reader::{Reader, Section};
use crate::settled::{LogFormat, LogLevel, LogRotation, LogSettings};
use crate::value::Size;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn log(reader: &mut Reader) -> LogSettings {
    let mut section = reader.section("log", "The logs. No token and no password is ever in one, but for the generated one of the dashboard, once, in server.");
    LogSettings {
        format: section.one_of(
            "format",
            "How the log is written to stderr, for people or for collectors.",
            &[("human", LogFormat::Human), ("json", LogFormat::Json)],
        ),
        level: section.one_of(
            "level",
            "The least severe events that are written.",
            &[
                ("info", LogLevel::Info),
                ("error", LogLevel::Error),
                ("warn", LogLevel::Warn),
                ("debug", LogLevel::Debug),
                ("trace", LogLevel::Trace),
            ],
        ),
        time_zone: section.read(
            "time_zone",
            "The time zone of the logs and of a day in the statistics, like \"Europe/Berlin\". CT_TIME_ZONE overrides it.",
            "UTC".to_owned(),
            |name: &String| match TimeZoneDatabase::bundled().get(name) {
                Ok(_) => Ok(()),
                Err(_) => Err(format!("{name:?} is no time zone; write one like \"Europe/Berlin\" or \"UTC\"")),
            },
        ),
        server: file(&mut section, "server", "What the edge says of itself: start, license, ports, trouble."),
        sessions: file(&mut section, "sessions", "Sessions created, joined, left and ended."),
        usage: file(&mut section, "usage", "Users online and users in sessions, of all nodes, every usage_interval."),
        usage_interval: section.within(
            "usage_interval",
            "The time between two lines of the usage log. They stand at the full multiples of it.",
            minutes(5),
            seconds(1)..=hours(24),
        ),
        access: file(
            &mut section,
            "access",
            "One line a request in nginx's combined format; opened again on SIGUSR1, as all of these files are.",
        ),
        error: file(&mut section, "error", "Warnings and errors of the balancer, in the format of nginx's error log."),
        rotation: rotation(&mut section),
    }
}

fn file(section: &mut Section<'_>, name: &str, doc: &str) -> Option<PathBuf> {
    let default = PathBuf::from(format!("logs/{name}.log"));
    section.any(name, &format!("{doc} \"\" switches it off."), Some(default))
}

fn rotation(section: &mut Section<'_>) -> LogRotation {
    LogRotation {
        bytes_max: section
            .within("rotate_size", "A log file of this size is set aside.", Size(64 << 20), Size(4096)..=Size(1 << 40))
            .0,
        age_max: section.within(
            "rotate_age",
            "A log file that was begun this long ago is set aside.",
            7 * DAY,
            Duration::from_secs(1)..=3650 * DAY,
        ),
        kept: section.within("rotate_keep", "How many set-aside files are kept of each log.", 8, 0..=1000),
    }
}
