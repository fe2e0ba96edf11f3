//! The two files of `metrics.tar.gz`, as RFC 4180 writes them.

use std::fmt::Write as _;

use ctedge_ownership::StoreFailure;

use super::usage::{DayFigures, DownloadFigures};
use crate::entry::Day;
use crate::store::Store;

impl Store {
    /// `session-metrics.csv`: one line a day.
    pub async fn session_metrics_csv(&self, from: Day, to: Day) -> Result<String, StoreFailure> {
        Ok(sessions(&self.days(from, to).await?))
    }

    /// `download-metrics.csv`: one line a day and artifact.
    pub async fn download_metrics_csv(&self, from: Day, to: Day) -> Result<String, StoreFailure> {
        Ok(downloads(&self.downloads(from, to).await?))
    }
}

fn sessions(days: &[DayFigures]) -> String {
    let mut text = "day,sessions,largest_concurrent_sessions,unique_users,joins,average_session_size,\
                    most_users_online,most_users_in_sessions\r\n"
        .to_owned();
    for day in days {
        let average = if day.sessions == 0 { 0.0 } else { (day.sessions + day.joins) as f64 / day.sessions as f64 };
        let DayFigures {
            day, sessions, sessions_most, users, joins, users_online_most, users_in_sessions_most, ..
        } = day;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{day},{sessions},{sessions_most},{users},{joins},{average:.2},{users_online_most},\
             {users_in_sessions_most}\r\n"
        );
    }
    text
}

fn downloads(rows: &[DownloadFigures]) -> String {
    let mut text = "day,ide,version,artifact,downloads\r\n".to_owned();
    for DownloadFigures { day, ide, version, artifact, downloads } in rows {
        let (ide, version, artifact) = (field(ide), field(version), field(artifact));
        let _ = write!(text, "{day},{ide},{version},{artifact},{downloads}\r\n");
    }
    text
}

/// A field in quotes where it needs them. A spreadsheet would carry out what begins like a formula; an apostrophe
/// makes it text.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_where_it_must_be() {
        for (text, expected) in [
            ("vscode", "vscode"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(field(text), expected);
        }
    }

    #[test]
    fn a_day_without_sessions_has_no_average() {
        let day = Day { year: 2026, month: 1, day: 2 };
        let figures = |sessions, joins| DayFigures {
            day,
            sessions,
            joins,
            ended: 0,
            sessions_most: 1,
            users_online_most: 4,
            users_in_sessions_most: 3,
            users: 2,
        };
        let text = sessions(&[figures(0, 0), figures(3, 4)]);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines, ["2026-01-02,0,1,2,0,0.00,4,3", "2026-01-02,3,1,2,4,2.33,4,3"]);
    }
}
