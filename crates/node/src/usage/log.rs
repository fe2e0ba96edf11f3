//! `usage.log`: a line every few minutes, of all nodes together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use ctedge_logs::{Rotation, UsageLog, Zone};
use ctedge_settings::{LogRotation, LogSettings};

use super::Scope;
use crate::app::App;

/// Opens the log of the settings. `None` if they switch it off.
pub(crate) fn open(settings: &LogSettings, zone: Zone) -> anyhow::Result<Option<UsageLog>> {
    let Some(path) = &settings.usage else { return Ok(None) };
    let LogRotation { bytes_max, age_max, kept } = settings.rotation;
    let log = UsageLog::open(path, Rotation { bytes_max, age_max, kept }, zone);
    log.map(Some).context("a log file cannot be written")
}

/// Writes until it is dropped.
pub(crate) async fn write(app: Arc<App>, log: UsageLog) {
    let every = app.settings().log.usage_interval;
    let mut last = mark(SystemTime::now(), every);
    loop {
        tokio::time::sleep(until_next(SystemTime::now(), every)).await;
        let now = mark(SystemTime::now(), every);
        if now == last {
            // The sleep ended a little before the clock came to it.
            continue;
        }
        last = now;
        app.usage.count(&app.hub);
        let Some((scope, usage)) = app.usage_to_tell() else { continue };
        let node = (scope == Scope::ThisNode).then_some(app.settings().id.as_str());
        // The log itself tells what it cannot write.
        let _ = log.record(now, usage.users_online, usage.users_in_sessions, node);
    }
}

/// The last full multiple of `every`. All nodes find the same one, so that when another becomes the first no line is
/// written twice and none is left out.
fn mark(now: SystemTime, every: Duration) -> SystemTime {
    now - since_mark(now, every)
}

/// At least a millisecond, so that a clock that stands still is not asked without end.
fn until_next(now: SystemTime, every: Duration) -> Duration {
    (every - since_mark(now, every)).max(Duration::from_millis(1))
}

fn since_mark(now: SystemTime, every: Duration) -> Duration {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_nanos((since_1970.as_nanos() % every.as_nanos().max(1)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_at_full_multiples_of_their_interval() {
        let at = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        let every = Duration::from_secs(300);
        for (now, last, next_in) in [(600_000, 600_000, 300_000), (600_001, 600_000, 299_999), (899_999, 600_000, 1)] {
            assert_eq!((mark(at(now), every), until_next(at(now), every)), (at(last), Duration::from_millis(next_in)));
        }
    }
}
