//! Which days are asked for.

use ctedge_store::{AuditFilter, Day, UnixMillis};
use jiff::Timestamp;
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
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

impl Asked {
    /// The days in the zone that the operator counts them in.
    pub(super) fn days(&self) -> Result<Days, NoDay> {
        let day = |name, written: &Option<String>, otherwise| match written {
            Some(written) => begin(name, written).map(|(day, _)| day),
            None => Ok(otherwise),
        };
        Ok(Days { from: day("from", &self.from, FIRST)?, to: day("to", &self.to, LAST)? })
    }

    /// The audit entries of these days in UTC, as the times of the entries are.
    pub(super) fn filter(&self) -> Result<AuditFilter, NoDay> {
        let begin = |name, written: &Option<String>| {
            written.as_ref().map(|written| begin(name, written).map(|(_, at)| at)).transpose()
        };
        let until = begin("to", &self.to)?.map(|at| UnixMillis(at.0.saturating_add(DAY_MILLIS)));
        Ok(AuditFilter { from: begin("from", &self.from)?, until, ..AuditFilter::default() })
    }
}

/// A day, and its beginning in UTC.
fn begin(name: &'static str, written: &str) -> Result<(Day, UnixMillis), NoDay> {
    let day = Day::parse(written);
    // The calendar knows how long each month is.
    let begin = day.and_then(|day| format!("{day}T00:00:00Z").parse::<Timestamp>().ok());
    let (Some(day), Some(begin)) = (day, begin) else {
        return Err(NoDay { name, written: written.to_owned() });
    };
    // Nothing was written before 1970.
    Ok((day, UnixMillis(u64::try_from(begin.as_millisecond()).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: Option<&str>, to: Option<&str>) -> Asked {
        Asked { from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    #[test]
    fn both_days_are_included_and_none_is_no_bound() {
        let day = Day { year: 2026, month: 11, day: 24 };
        let one = asked(Some("2026-11-24"), Some("2026-11-24"));
        assert_eq!(one.days(), Ok(Days { from: day, to: day }));
        let filter = one.filter().unwrap();
        let begin = UnixMillis(1_795_478_400_000);
        assert_eq!((filter.from, filter.until), (Some(begin), Some(UnixMillis(begin.0 + DAY_MILLIS))));
        assert_eq!(asked(None, None).filter(), Ok(AuditFilter::default()));
        assert_eq!(asked(None, None).days(), Ok(Days { from: FIRST, to: LAST }));
    }

    #[test]
    fn what_is_no_day_is_named() {
        for wrong in ["", "yesterday", "2026-02-30", "2026-11-24'; --"] {
            let problem = NoDay { name: "to", written: wrong.to_owned() };
            assert_eq!(asked(None, Some(wrong)).days(), Err(problem.clone()));
            assert_eq!(asked(None, Some(wrong)).filter(), Err(problem));
        }
    }
}
