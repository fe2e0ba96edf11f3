//! Rows as RFC 4180 writes them.

use std::borrow::Cow;
use std::io;

use csv::{Terminator, Writer, WriterBuilder};
use ctedge_store::{Audit, DayFigures, DownloadFigures, UnixMillis};
use jiff::Timestamp;

/// The columns of `session-metrics.csv`, a line a day.
const SESSION_COLUMNS: [&str; 8] = [
    "day",
    "sessions",
    "largest_concurrent_sessions",
    "unique_users",
    "joins",
    "average_session_size",
    "most_users_online",
    "most_users_in_sessions",
];

/// The columns of `download-metrics.csv`, a line a day and artifact.
const DOWNLOAD_COLUMNS: [&str; 5] = ["day", "ide", "version", "artifact", "downloads"];

/// The columns of `audit.csv`.
const AUDIT_COLUMNS: [&str; 11] = [
    "time_utc",
    "event",
    "session",
    "node",
    "peer",
    "user_id",
    "user_name",
    "user_email",
    "user_provider",
    "client",
    "reason",
];

pub(super) fn sessions(days: &[DayFigures]) -> io::Result<Vec<u8>> {
    let mut table = table();
    table.write_record(SESSION_COLUMNS)?;
    for day in days {
        let average = if day.sessions == 0 { 0.0 } else { (day.sessions + day.joins) as f64 / day.sessions as f64 };
        table.write_record([
            day.day.to_string(),
            day.sessions.to_string(),
            day.sessions_most.to_string(),
            day.users.to_string(),
            day.joins.to_string(),
            format!("{average:.2}"),
            day.users_online_most.to_string(),
            day.users_in_sessions_most.to_string(),
        ])?;
    }
    bytes(table)
}

pub(super) fn downloads(rows: &[DownloadFigures]) -> io::Result<Vec<u8>> {
    let mut table = table();
    table.write_record(DOWNLOAD_COLUMNS)?;
    for DownloadFigures { day, ide, version, artifact, downloads } in rows {
        let (day, downloads) = (day.to_string(), downloads.to_string());
        table.write_record([&day, &*text(ide), &*text(version), &*text(artifact), &downloads])?;
    }
    bytes(table)
}

/// The first line of `audit.csv`.
pub(super) fn audit_head() -> io::Result<Vec<u8>> {
    let mut table = table();
    table.write_record(AUDIT_COLUMNS)?;
    bytes(table)
}

/// Further lines of `audit.csv`.
pub(super) fn audit(entries: &[Audit]) -> io::Result<Vec<u8>> {
    let mut table = table();
    for entry in entries {
        let user = entry.user.as_ref();
        let optional = |written: Option<&String>| text(written.map_or("", String::as_str)).into_owned();
        table.write_record([
            time(entry.at),
            entry.event.as_str().to_owned(),
            text(entry.key.as_str()).into_owned(),
            text(entry.node.as_str()).into_owned(),
            optional(entry.peer.as_ref()),
            optional(user.and_then(|user| user.id.as_ref())),
            optional(user.map(|user| &user.name)),
            optional(user.and_then(|user| user.email.as_ref())),
            optional(user.and_then(|user| user.provider.as_ref())),
            optional(entry.client.as_ref()),
            optional(entry.reason.as_ref()),
        ])?;
    }
    bytes(table)
}

fn table() -> Writer<Vec<u8>> {
    WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new())
}

fn bytes(table: Writer<Vec<u8>>) -> io::Result<Vec<u8>> {
    table.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

/// `2026-11-24T21:05:00.123Z`
fn time(at: UnixMillis) -> String {
    let at = Timestamp::from_millisecond(at.0.cast_signed()).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Text that a stranger may have chosen. A spreadsheet would carry out what begins like a formula; an apostrophe makes it
/// text.
fn text(written: &str) -> Cow<'_, str> {
    if written.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{written}"))
    } else {
        Cow::Borrowed(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_store::Day;

    const DAY: Day = Day { year: 2026, month: 1, day: 2 };

    fn lines(table: io::Result<Vec<u8>>) -> Vec<String> {
        let text = String::from_utf8(table.unwrap()).unwrap();
        text.split_terminator("\r\n").skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn a_day_without_sessions_has_no_average() {
        let figures = |sessions, joins| DayFigures {
            day: DAY,
            sessions,
            joins,
            ended: 0,
            sessions_most: 1,
            users_online_most: 4,
            users_in_sessions_most: 3,
            users: 2,
        };
        let days = lines(sessions(&[figures(0, 0), figures(3, 4)]));
        assert_eq!(days, ["2026-01-02,0,1,2,0,0.00,4,3", "2026-01-02,3,1,2,4,2.33,4,3"]);
    }

    #[test]
    fn what_a_stranger_wrote_stays_one_field_and_is_no_formula() {
        for (artifact, written) in [
            ("vscode", "vscode"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("@x,y", "\"'@x,y\""),
            ("two\nlines", "\"two\nlines\""),
            ("", ""),
        ] {
            let row = DownloadFigures {
                day: DAY,
                ide: "eclipse".into(),
                version: "1".into(),
                artifact: artifact.into(),
                downloads: 7,
            };
            assert_eq!(lines(downloads(&[row])), [format!("2026-01-02,eclipse,1,{written},7")]);
        }
    }

    #[test]
    fn a_time_is_written_to_the_millisecond() {
        assert_eq!(time(UnixMillis(1_795_467_661_042)), "2026-11-23T21:01:01.042Z");
    }
}
