//! `usage.log`: how many users are online and how many of them in sessions, every few minutes.
//!
//! ```text
//! 2026-11-24 21:05:00.000 +0000 users-online=12 users-in-sessions=9
//! ```
//!
//! Nodes that know nothing of each other tell what they know, each under its name: ` node=node-1` follows then.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::file::{LogFile, Rotation};
use crate::zone::{Style, Zone};

/// The usage log. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct UsageLog {
    file: Arc<Mutex<LogFile>>,
    zone: Zone,
}

impl UsageLog {
    /// Opens the log at `path` for appending, creating it and its folder where they are missing.
    pub fn open(path: &Path, rotation: Rotation, zone: Zone) -> io::Result<Self> {
        Ok(Self { file: Arc::new(Mutex::new(LogFile::open("log.usage", path, rotation)?)), zone })
    }

    /// Goes on in the file of that name, after it was moved. If that fails, the log says so and goes on with the file it
    /// has.
    pub fn reopen(&self) {
        if let Err(error) = self.file.lock().reopen() {
            tracing::error!(%error, "the usage log cannot be opened again, it goes on where it was");
        }
    }

    /// Appends one line: users with a connection, and users of sessions, at `time`. They are those of all nodes, or else
    /// of `node` alone. A line of all nodes at that time is not written twice, whichever process of the machine wrote it:
    /// for a moment, two nodes may both take themselves for the first.
    pub fn record(
        &self,
        time: SystemTime,
        users_online: u64,
        users_in_sessions: u64,
        node: Option<&str>,
    ) -> io::Result<()> {
        let mut line = String::new();
        self.zone.write(&mut line, time, Style::Server);
        let begins = format!("{line} users-online=");
        let node_is_named = node.is_some();
        let node = node.map(|node| format!(" node={node}")).unwrap_or_default();
        writeln!(line, " users-online={users_online} users-in-sessions={users_in_sessions}{node}")
            .map_err(io::Error::other)?;
        let is_of_all = |other: &str| other.starts_with(&begins) && !other.contains(" node=");
        let mut file = self.file.lock();
        let written = if node_is_named {
            file.append(line.as_bytes())
        } else {
            file.append_unless(|end| end.lines().any(is_of_all), line.as_bytes())
        };
        if let Some(trouble) = file.trouble() {
            tracing::error!("{trouble}");
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_line_has_its_time_and_both_counts_and_is_written_once_for_all_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/usage.log");
        let rotation = Rotation { bytes_max: 1 << 20, age_max: Duration::from_secs(3600), kept: 1 };
        let log = UsageLog::open(&path, rotation, Zone::default()).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1_795_467_661);
        log.record(time, 12, 9, None).unwrap();
        log.record(time, 7, 6, Some("node-2")).unwrap();
        let other = UsageLog::open(&path, rotation, Zone::default()).unwrap();
        other.record(time, 11, 9, None).unwrap();
        other.record(time + Duration::from_secs(300), 3, 2, None).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "2026-11-23 21:01:01.000 +0000 users-online=12 users-in-sessions=9\n\
             2026-11-23 21:01:01.000 +0000 users-online=7 users-in-sessions=6 node=node-2\n\
             2026-11-23 21:06:01.000 +0000 users-online=3 users-in-sessions=2\n"
        );
    }

    #[test]
    fn of_many_writers_at_one_time_one_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.log");
        let rotation = Rotation { bytes_max: 1 << 20, age_max: Duration::from_secs(3600), kept: 1 };
        let minutes = 20;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let log = UsageLog::open(&path, rotation, Zone::default()).unwrap();
                scope.spawn(move || {
                    for minute in 0..minutes {
                        log.record(UNIX_EPOCH + Duration::from_secs(60 * minute), 1, 1, None).unwrap();
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count() as u64, minutes, "{text}");
    }

    #[test]
    fn after_a_reopen_lines_are_in_the_file_of_that_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.log");
        let rotation = Rotation { bytes_max: 1 << 20, age_max: Duration::from_secs(3600), kept: 1 };
        let log = UsageLog::open(&path, rotation, Zone::default()).unwrap();
        let of_signal = log.clone();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        of_signal.reopen();
        log.record(UNIX_EPOCH, 1, 1, None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
