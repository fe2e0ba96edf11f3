//! A day of the calendar, as licenses write it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const SECONDS_A_DAY: u64 = 86_400;

/// Days from 0000-03-01 to 1970-01-01 in the Gregorian calendar.
const DAYS_TO_1970: i64 = 719_468;

/// Days of 400 years.
const DAYS_OF_ERA: i64 = 146_097;

/// A day, by its number since 1970-01-01. Written `2027/12/31`, with a year of four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

/// The text is no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no day; write it like 2027/12/31")]
pub struct NoDay(String);

impl Day {
    /// The day in UTC at `unix_now` since 1970.
    #[must_use]
    pub fn at(unix_now: Duration) -> Self {
        Self(i64::try_from(unix_now.as_secs() / SECONDS_A_DAY).unwrap_or(i64::MAX))
    }

    /// The days from `earlier` to this one; negative when this one is earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    fn from_civil(year: i64, month: i64, day: i64) -> Option<Self> {
        let found = Self(days_from_civil(year, month, day));
        // A day that the month does not have comes back as one of the next month.
        (found.to_civil() == (year, month, day)).then_some(found)
    }

    fn to_civil(self) -> (i64, i64, i64) {
        let days = self.0.saturating_add(DAYS_TO_1970);
        let era = days.div_euclid(DAYS_OF_ERA);
        let day_of_era = days.rem_euclid(DAYS_OF_ERA);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }
}

/// The algorithm of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the
/// leap day is the last one.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * DAYS_OF_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - DAYS_TO_1970
}

impl FromStr for Day {
    type Err = NoDay;

    /// Reads `YYYY/MM/DD`; zeros before month and day may be left out.
    fn from_str(text: &str) -> Result<Self, NoDay> {
        let digits = |part: &str, most: usize| {
            let fits = (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            fits.then(|| part.parse::<i64>().ok()).flatten()
        };
        let mut parts = text.split('/');
        let year = parts.next().filter(|year| year.len() == 4).and_then(|year| digits(year, 4));
        let (month, day) =
            (parts.next().and_then(|part| digits(part, 2)), parts.next().and_then(|part| digits(part, 2)));
        let found = match (year, month, day, parts.next()) {
            (Some(year), Some(month @ 1..=12), Some(day), None) => Self::from_civil(year, month, day),
            _ => None,
        };
        found.ok_or_else(|| NoDay(text.to_owned()))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.to_civil();
        write!(formatter, "{year:04}/{month:02}/{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(text.parse::<Day>().ok(), expected.map(Day), "{text:?}");
    }

    #[test]
    fn a_day_is_read_as_the_calendar_has_it() {
        check("1970/01/01", Some(0));
        check("2000/02/29", Some(11_016));
        check("2026/11/24", Some(20_781));
        check("2026/1/2", Some(20_455));
        for wrong in ["", "2026", "2026/02/29", "2026/13/01", "2026/00/01", "2026/01/00", "2026/01/32", "26/01/01"] {
            check(wrong, None);
        }
        for wrong in ["2026-01-01", "2026/01/01/", "2026/+1/01", "2026/001/01", " 2026/01/01", "١٩٧٠/01/01"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_day_ends_at_midnight_utc() {
        let midnight = Duration::from_secs(20_781 * SECONDS_A_DAY);
        assert_eq!(Day::at(midnight).to_string(), "2026/11/24");
        assert_eq!(Day::at(midnight - Duration::from_secs(1)).to_string(), "2026/11/23");
        assert_eq!(Day::at(midnight).since("2026/11/23".parse().unwrap()), 1);
    }

    proptest! {
        #[test]
        fn every_day_of_four_digits_is_read_as_it_is_written(days in -719_528_i64..2_932_896) {
            let day = Day(days);
            prop_assert_eq!(day.to_string().parse::<Day>(), Ok(day));
        }

        #[test]
        fn any_text_is_a_day_or_is_not(text in "[0-9/ -]{0,12}|.*") {
            if let Ok(day) = text.parse::<Day>() {
                prop_assert_eq!(day.to_string().parse::<Day>(), Ok(day));
            }
        }
    }
}
