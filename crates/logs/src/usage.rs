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
use std::time::SystemTime;

use crate::file::{LogFile, Rotation};
use crate::zone::{Style, Zone};

/// The usage log.
#[derive(Debug)]
pub struct UsageLog {
    file: LogFile,
    zone: Zone,
}

impl UsageLog {
    /// Opens the log at `path` for appending, creating it and its folder where they are missing.
    pub fn open(path: &Path, rotation: Rotation, zone: Zone) -> io::Result<Self> {
        Ok(Self { file: LogFile::open(path, rotation)?, zone })
    }

    /// Appends one line: users with a connection, and users of sessions, at `time`. They are those of all nodes, or else
    /// of `node` alone.
    pub fn record(
        &mut self,
        time: SystemTime,
        users_online: u64,
        users_in_sessions: u64,
        node: Option<&str>,
    ) -> io::Result<()> {
        let mut line = String::new();
        self.zone.write(&mut line, time, Style::Server);
        let node = node.map(|node| format!(" node={node}")).unwrap_or_default();
        writeln!(line, " users-online={users_online} users-in-sessions={users_in_sessions}{node}")
            .map_err(io::Error::other)?;
        self.file.append(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn a_line_has_its_time_and_both_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/usage.log");
        let rotation = Rotation { bytes_max: 1 << 20, age_max: Duration::from_secs(3600), kept: 1 };
        let mut log = UsageLog::open(&path, rotation, Zone::default()).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1_795_467_661);
        log.record(time, 12, 9, None).unwrap();
        log.record(time, 7, 6, Some("node-2")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "2026-11-23 21:01:01.000 +0000 users-online=12 users-in-sessions=9\n\
             2026-11-23 21:01:01.000 +0000 users-online=7 users-in-sessions=6 node=node-2\n"
        );
    }
}
