//! The time of a log line: `23/Nov/2026:21:05:00 +0000`, as nginx writes it. Always UTC.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const SECONDS_PER_DAY: u64 = 86_400;

/// Appends `time` to `line`. A time before 1970 is written as the first second of it.
pub(crate) fn write_time(line: &mut String, time: SystemTime) -> fmt::Result {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
    let second_of_day = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    write!(line, "{day:02}/{}/{year}:{hour:02}:{minute:02}:{second:02} +0000", MONTHS[month - 1])
}

/// Year, month (1 to 12) and day of the Gregorian calendar for a number of days since 1970-01-01: the algorithm of
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`, for days from 1970 on.
fn civil_from_days(days: u64) -> (u64, usize, u64) {
    // Counting from 0000-03-01 puts the leap day at the end of the year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(seconds: u64, expected: &str) {
        let mut line = String::new();
        write_time(&mut line, UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        assert_eq!(line, expected);
    }

    #[test]
    fn times_are_written_as_nginx_writes_them() {
        check(0, "01/Jan/1970:00:00:00 +0000");
        check(951_782_400, "29/Feb/2000:00:00:00 +0000");
        check(1_709_251_199, "29/Feb/2024:23:59:59 +0000");
        check(1_709_251_200, "01/Mar/2024:00:00:00 +0000");
        check(1_795_467_661, "23/Nov/2026:21:01:01 +0000");
        check(4_102_444_799, "31/Dec/2099:23:59:59 +0000");
    }
}
