//! The table of processes, as `ctedge list` prints it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::edge::{BALANCER, Edge};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its place in the table.
    pub index: usize,
    /// What commands call it by.
    pub uid: String,
    /// What is run.
    pub command: String,
    /// Its process id, while there is one.
    pub pid: Option<i32>,
    /// What it says goes here.
    pub log_file: PathBuf,
    /// For how long the process has been running, as `days:hours:minutes:seconds.millis`.
    pub uptime: Option<String>,
    /// The same in milliseconds.
    pub uptime_ms: Option<u64>,
    /// `running`, `waiting`, `retired`, `stopping`, `stopped` or `drained`.
    pub state: String,
    /// How often it has died by itself since it was ordered to start.
    pub deaths: u32,
}

impl Edge {
    /// Every process: the balancer, the nodes by number, balancers that were replaced and are not done yet.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut rows = self.each(|child, is_retired| {
            let status = child.status();
            let pid = status.pid.map(|pid| pid.as_raw_nonzero().get());
            let uptime = status.started.map(|started| started.elapsed());
            let name = &child.spec().name;
            let uid = if is_retired { format!("{name}-{}", pid.unwrap_or(0)) } else { name.clone() };
            let row = Process {
                index: 0,
                command: child.spec().command(),
                pid,
                log_file: child.spec().log_file(),
                uptime: uptime.map(written),
                uptime_ms: uptime.map(|uptime| u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)),
                state: status.phase.as_str().to_owned(),
                deaths: status.deaths,
                uid,
            };
            (is_retired, row)
        });
        rows.retain(|(is_retired, row)| !is_retired || row.pid.is_some());
        rows.sort_by_key(|(is_retired, row)| (*is_retired, row.uid != BALANCER, row.uid.len(), row.uid.clone()));
        rows.into_iter().enumerate().map(|(index, (_, row))| Process { index, ..row }).collect()
    }
}

/// `days:hours:minutes:seconds.millis`, like `2:15:37:49.537`.
fn written(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    format!(
        "{}:{:02}:{:02}:{:02}.{:03}",
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        uptime.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uptime_has_days_hours_minutes_seconds_and_millis() {
        let seconds = ((2 * 24 + 15) * 60 + 37) * 60 + 49;
        assert_eq!(written(Duration::from_millis(seconds * 1000 + 537)), "2:15:37:49.537");
        assert_eq!(written(Duration::from_millis(4_005)), "0:00:00:04.005");
    }
}
