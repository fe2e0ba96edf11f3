//! Which days are asked for.

use ctedge_store::{AuditFilter, Day, UnixMillis};
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Deserialize;

/// Days as a query names them. What it does not name is not bounded.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    from: Option<String>,
    to: Option<String>,
}

/// Days, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) from: Day,
    pub(super) to: Day,
}

/// A query that names no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is no day: {written:?}; write one like 2026-11-24")]
pub(super) struct NoDay {
    name: &'static str,
    written: String,
}

const FIRST: Day = Day { year: 0, month: 1, day: 1 };
const LAST: Day = Day { year: 9999, month: 12, day: 31 };

impl Asked {
    /// The days in the zone that the operator counts them in.
    pub(super) fn days(&self) -> Result<Days, NoDay> {
        let day = |name, written: &Option<String>, otherwise| match written {
            Some(written) => date(name, written).map(|(day, _)| day),
            None => Ok(otherwise),
        };
        Ok(Days { from: day("from", &self.from, FIRST)?, to: day("to", &self.to, LAST)? })
    }

    /// The audit entries of the same days, in the zone of this name.
    pub(super) fn filter(&self, zone: &str) -> Result<AuditFilter, NoDay> {
        // The settings have made sure that there is such a zone.
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap_or(TimeZone::UTC);
        let date = |name, written: &Option<String>| {
            written.as_ref().map(|written| date(name, written).map(|(_, date)| date)).transpose()
        };
        let from = date("from", &self.from)?.map(|date| begin(date, &zone));
        // The last day that there is has no end.
        let after = date("to", &self.to)?.and_then(|date| date.tomorrow().ok());
        Ok(AuditFilter { from, until: after.map(|date| begin(date, &zone)), ..AuditFilter::default() })
    }
}

/// A day as the store has it, and as the calendar does, which knows how long each month is.
fn date(name: &'static str, written: &str) -> Result<(Day, Date), NoDay> {
    let day = Day::parse(written);
    let date = day.and_then(|day| day.to_string().parse().ok());
    day.zip(date).ok_or_else(|| NoDay { name, written: written.to_owned() })
}

/// When the day begins, which is not midnight everywhere and always.
fn begin(date: Date, zone: &TimeZone) -> UnixMillis {
    let begin = date.to_zoned_datetime(zone.clone()).map(|begin| begin.timestamp().as_millisecond());
    // Nothing was written before 1970.
    UnixMillis(begin.ok().and_then(|begin| u64::try_from(begin).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: Option<&str>, to: Option<&str>) -> Asked {
        Asked { from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    const HOUR: u64 = 60 * 60 * 1000;

    #[track_caller]
    fn check_filter(asked: &Asked, zone: &str, from: u64, until: u64) {
        let filter = asked.filter(zone).unwrap();
        assert_eq!((filter.from, filter.until), (Some(UnixMillis(from)), Some(UnixMillis(until))), "{zone}");
    }

    #[test]
    fn a_day_on_which_clocks_are_changed_has_its_own_length() {
        let one = asked(Some("2026-10-25"), Some("2026-10-25"));
        let begin = 1_792_879_200_000;
        check_filter(&one, "Europe/Berlin", begin, begin + 25 * HOUR);
    }

    #[test]
    fn both_days_are_included_and_none_is_no_bound() {
        let day = Day { year: 2026, month: 11, day: 24 };
        let one = asked(Some("2026-11-24"), Some("2026-11-24"));
        assert_eq!(one.days(), Ok(Days { from: day, to: day }));
        let begin = 1_795_478_400_000;
        let day = 24 * HOUR;
        check_filter(&one, "UTC", begin, begin + day);
        check_filter(&one, "Europe/Berlin", begin - HOUR, begin - HOUR + day);
        check_filter(&one, "America/New_York", begin + 5 * HOUR, begin + 5 * HOUR + day);
        assert_eq!(asked(None, None).filter("UTC"), Ok(AuditFilter::default()));
        assert_eq!(asked(None, None).days(), Ok(Days { from: FIRST, to: LAST }));
    }

    #[test]
    fn what_is_no_day_is_named() {
        for wrong in ["", "yesterday", "2026-02-30", "2026-11-24'; --"] {
            let problem = NoDay { name: "to", written: wrong.to_owned() };
            assert_eq!(asked(None, Some(wrong)).days(), Err(problem.clone()));
            assert_eq!(asked(None, Some(wrong)).filter("UTC"), Err(problem));
        }
    }
}
