//! The time zone of the logs, and the times of their lines.

use std::cell::RefCell;
use std::fmt;
use std::time::SystemTime;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ZonedDateTime};

/// The time zone that log lines are written in. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Zone({})", self.name())
    }
}

/// How the time of a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `24/Nov/2026:21:05:00 +0000`, as nginx writes it in its access log.
    Access,
    /// `2026/11/24 21:05:00`, as nginx writes it in its error log.
    Error,
    /// `2026-11-24 21:05:00.123 +0000`.
    Server,
}

impl Zone {
    /// A zone of the IANA time zone database, like `Europe/Berlin`, without regard to case. `None` for any other name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TimeZoneDatabase::bundled().get(name).ok().map(Self)
    }

    /// The name of the zone.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// `time` as the clocks of this zone show it. A time that no calendar reaches is written as 1970.
    #[must_use]
    pub fn civil(&self, time: SystemTime) -> ZonedDateTime {
        Timestamp::try_from(time).unwrap_or_default().to_zoned_datetime(self.0.clone())
    }

    /// Appends `time` to `line`.
    pub(crate) fn write(&self, line: &mut String, time: SystemTime, style: Style) {
        let at = Timestamp::try_from(time).unwrap_or_default();
        if style == Style::Server {
            let text = at.to_zoned_datetime(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f %z").to_string();
            return line.push_str(&text);
        }
        LAST.with_borrow_mut(|last| {
            // Lines come by the hundred within one second, and a calendar is slow.
            if last.second != at.as_second() || last.style != style || last.zone != *self {
                let format = if style == Style::Access { "%d/%b/%Y:%H:%M:%S %z" } else { "%Y/%m/%d %H:%M:%S" };
                let text = at.to_zoned_datetime(self.0.clone()).strftime(format).to_string();
                *last = Last { second: at.as_second(), style, zone: self.clone(), text };
            }
            line.push_str(&last.text);
        });
    }
}

/// The last time that a thread has written, and as what.
struct Last {
    second: i64,
    style: Style,
    zone: Zone,
    text: String,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::new(Last {
        second: i64::MIN,
        style: Style::Access,
        zone: Zone::default(),
        text: String::new(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn check(zone: &str, style: Style, milliseconds: u64, expected: &str) {
        let mut line = String::new();
        Zone::named(zone).unwrap().write(&mut line, UNIX_EPOCH + Duration::from_millis(milliseconds), style);
        assert_eq!(line, expected);
    }

    #[test]
    fn times_are_written_as_nginx_writes_them() {
        check("UTC", Style::Access, 0, "01/Jan/1970:00:00:00 +0000");
        check("UTC", Style::Access, 1_709_251_199_000, "29/Feb/2024:23:59:59 +0000");
        check("UTC", Style::Access, 1_795_467_661_000, "23/Nov/2026:21:01:01 +0000");
        check("UTC", Style::Error, 1_795_467_661_000, "2026/11/23 21:01:01");
    }

    #[test]
    fn the_zone_and_its_summer_time_count() {
        check("Europe/Berlin", Style::Access, 1_795_467_661_000, "23/Nov/2026:22:01:01 +0100");
        check("europe/berlin", Style::Access, 1_782_000_000_000, "21/Jun/2026:02:00:00 +0200");
        check("America/New_York", Style::Server, 1_795_467_661_042, "2026-11-23 16:01:01.042 -0500");
    }

    #[test]
    fn a_name_that_is_no_zone_is_none() {
        assert_eq!(Zone::named("Mars/Olympus"), None);
        assert_eq!(Zone::named(""), None);
    }
}
