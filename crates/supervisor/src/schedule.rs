//! When the periodic restart is due.

use std::time::SystemTime;

use ctedge_logs::Zone;
use ctedge_settings::{CronPattern, WallMinute};

/// Watches the clock on the wall. Minutes in a row that match are one occasion: their first.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// Whether the last minute that was looked at matched. `None` before the first look: an edge that is started within an
    /// occasion has just been started, and needs no restart.
    matched: Option<bool>,
}

impl Schedule {
    /// Whether an occasion of `pattern` begins. Asked at least once a minute.
    pub(crate) fn is_due(&mut self, pattern: Option<&CronPattern>, zone: &Zone, now: SystemTime) -> bool {
        let matches = pattern.map(|pattern| pattern.matches(on_the_wall(zone, now)));
        let is_due = matches == Some(true) && self.matched == Some(false);
        self.matched = matches;
        is_due
    }
}

fn on_the_wall(zone: &Zone, now: SystemTime) -> WallMinute {
    let civil = zone.civil(now);
    let number = |number: i8| u8::try_from(number).unwrap_or(0);
    WallMinute {
        minute: number(civil.minute()),
        hour: number(civil.hour()),
        day: number(civil.day()),
        month: number(civil.month()),
        weekday: number(civil.weekday().to_sunday_zero_offset()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// Sunday, 22 November 2026, 00:00 UTC.
    const SUNDAY: u64 = 1_795_305_600;

    /// The minutes after [`SUNDAY`] at which a restart begins, within two weeks, looked at as often as the supervisor does.
    fn occasions(pattern: &str, zone: &str) -> Vec<u64> {
        let (pattern, zone) = (pattern.parse().unwrap(), Zone::named(zone).unwrap());
        let mut schedule = Schedule::default();
        let times = (0..14 * 24 * 60 * 3).map(|look| look * 20);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(SUNDAY + seconds);
        times
            .filter(|seconds| schedule.is_due(Some(&pattern), &zone, at(*seconds)))
            .map(|seconds| seconds / 60)
            .collect()
    }

    const DAY: u64 = 24 * 60;

    #[test]
    fn the_originals_pattern_restarts_once_a_week_and_not_sixty_times() {
        assert_eq!(occasions("* 11 * * 0", "UTC"), [11 * 60, 7 * DAY + 11 * 60]);
        assert_eq!(occasions("0,1,2,30 4 * * 0", "UTC"), [240, 270, 7 * DAY + 240, 7 * DAY + 270]);
    }

    #[test]
    fn the_time_zone_counts() {
        assert_eq!(occasions("* 11 * * 0", "Europe/Berlin"), [10 * 60, 7 * DAY + 10 * 60]);
        assert_eq!(occasions("0 23 * * 0", "America/New_York"), [DAY + 4 * 60, 8 * DAY + 4 * 60]);
    }

    #[test]
    fn a_start_within_an_occasion_needs_no_restart() {
        let pattern = "* * * * 0".parse().unwrap();
        let mut schedule = Schedule::default();
        let mut look = |minute| {
            let now = UNIX_EPOCH + Duration::from_secs(SUNDAY + minute * 60);
            schedule.is_due(Some(&pattern), &Zone::default(), now)
        };
        assert!(!look(5) && !look(6) && !look(DAY), "the rest of the Sunday");
        assert!(look(7 * DAY));
    }

    #[test]
    fn a_schedule_that_is_switched_on_waits_for_its_first_minute() {
        let pattern = "30 * * * *".parse().unwrap();
        let mut schedule = Schedule::default();
        let at = |minute: u64| UNIX_EPOCH + Duration::from_secs(SUNDAY + minute * 60);
        assert!(!schedule.is_due(None, &Zone::default(), at(30)));
        assert!(!schedule.is_due(Some(&pattern), &Zone::default(), at(30)));
        assert!(!schedule.is_due(Some(&pattern), &Zone::default(), at(31)));
        assert!(schedule.is_due(Some(&pattern), &Zone::default(), at(90)));
    }
}
