//! When the periodic restart is due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ctedge_logs::Zone;
use ctedge_settings::{CronPattern, WallMinute};

/// How far back a look goes that comes late, because something else took its time: an occasion that lies further back, as behind a
/// machine that slept, is over.
const MISSED_MAX: u64 = 60;

const MINUTE: u64 = 60;

/// Watches the clock on the wall. Minutes in a row that match are one occasion: their first.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// The last minute that was looked at, counted from 1970, and whether it matched. `None` before the first look: an edge that is
    /// started within an occasion has just been started, and needs no restart.
    last: Option<(u64, Option<bool>)>,
}

impl Schedule {
    /// Whether an occasion of `pattern` has begun since the last look.
    pub(crate) fn is_due(&mut self, pattern: Option<&CronPattern>, zone: &Zone, now: SystemTime) -> bool {
        let minute = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / MINUTE;
        let matches = |minute: u64| {
            let at = UNIX_EPOCH + Duration::from_secs(minute * MINUTE);
            pattern.map(|pattern| pattern.matches(on_the_wall(zone, at)))
        };
        let (looked, mut matched) = self.last.unwrap_or((minute, None));
        // A clock that was set back, or far ahead, goes on with the minute that it shows.
        let is_near = (looked..=looked.saturating_add(MISSED_MAX)).contains(&minute);
        let begins = if is_near { minute.min(looked + 1) } else { minute };
        let mut is_due = false;
        for minute in begins..=minute {
            let now_matches = matches(minute);
            is_due |= now_matches == Some(true) && matched == Some(false);
            matched = now_matches;
        }
        self.last = Some((minute, matched));
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

    #[test]
    fn a_minute_that_nobody_looked_at_is_not_stepped_over() {
        let pattern = "30 * * * *".parse().unwrap();
        let looks = |minutes: &[u64]| {
            let mut schedule = Schedule::default();
            let at = |minute: u64| UNIX_EPOCH + Duration::from_secs(SUNDAY + minute * 60 + 7);
            let look = |minute: &u64| schedule.is_due(Some(&pattern), &Zone::default(), at(*minute));
            minutes.iter().map(look).collect::<Vec<_>>()
        };
        assert_eq!(looks(&[28, 29, 31, 32]), [false, false, true, false]);
        assert_eq!(looks(&[10, 55]), [false, true]);
        // Whoever slept through two occasions restarts for neither.
        assert_eq!(looks(&[10, 200, 210]), [false, false, true]);
        assert_eq!(looks(&[40, 29, 30]), [false, false, true], "a clock that was set back");
    }

    #[test]
    fn steps_and_ranges_over_all_minutes_begin_with_the_hour() {
        assert_eq!(occasions("*/1 11 * * 0", "UTC"), [11 * 60, 7 * DAY + 11 * 60]);
        assert_eq!(occasions("0-59 11 * * 0", "UTC"), [11 * 60, 7 * DAY + 11 * 60]);
        assert_eq!(occasions("*/1 * * * 0", "UTC"), [7 * DAY], "the first Sunday has begun");
    }
}
