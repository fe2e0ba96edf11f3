//! The five fields of a crontab line, as far as a periodic restart needs them.
//!
//! Only one question is ever asked, whether a minute matches, so this reads the fields into bit sets and looks no date
//! up. What cron libraries add to that (the next date, seconds, years) would bring a second calendar along.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// `minute hour day-of-month month day-of-week`, as in crontab(5): numbers, ranges `1-5`, lists `1,15`, steps `*/10`,
/// and the first three letters of months and weekdays. Sunday is 0 and 7.
#[derive(Clone, PartialEq, Eq)]
pub struct CronPattern {
    written: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Where both name a day, either of them is enough.
    either_day: bool,
}

/// A minute as clocks and calendars on the wall show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallMinute {
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 1 to 31.
    pub day: u8,
    /// 1 to 12.
    pub month: u8,
    /// 0 for Sunday to 6 for Saturday.
    pub weekday: u8,
}

impl CronPattern {
    /// Whether `minute` is one that the pattern names.
    #[must_use]
    pub fn matches(&self, minute: WallMinute) -> bool {
        let has = |set: u64, number: u8| set & (1 << number) != 0;
        let (day, weekday) = (has(self.days, minute.day), has(self.weekdays, minute.weekday));
        let is_day = if self.either_day { day || weekday } else { day && weekday };
        has(self.minutes, minute.minute) && has(self.hours, minute.hour) && has(self.months, minute.month) && is_day
    }

    /// Whether it names all minutes that there are, however that is written.
    #[must_use]
    pub fn names_every_minute(&self) -> bool {
        let all = |set: u64, range: RangeInclusive<u8>| range.into_iter().all(|number| set & (1 << number) != 0);
        let (days, weekdays) = (all(self.days, 1..=31), all(self.weekdays, 0..=6));
        let every_day = if self.either_day { days || weekdays } else { days && weekdays };
        all(self.minutes, 0..=59) && all(self.hours, 0..=23) && all(self.months, 1..=12) && every_day
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

impl FromStr for CronPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields: Vec<_> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!(
                "{text:?} has {} field{}, a pattern has five: minute, hour, day of month, month, weekday",
                fields.len(),
                if fields.len() == 1 { "" } else { "s" }
            ));
        };
        let minutes = set("minute", minute, 0..=59, &[])?;
        let hours = set("hour", hour, 0..=23, &[])?;
        let days = set("day of month", day, 1..=31, &[])?;
        let months = set("month", month, 1..=12, &MONTHS)?;
        let weekdays = set("weekday", weekday, 0..=7, &WEEKDAYS)?;
        // Seven is another name of Sunday.
        let weekdays = (weekdays | (weekdays >> 7)) & 0x7f;
        // crontab(5): a field counts as restricted unless it begins with an asterisk.
        let either_day = !day.starts_with('*') && !weekday.starts_with('*');
        Ok(Self { written: fields.join(" "), minutes, hours, days, months, weekdays, either_day })
    }
}

impl fmt::Debug for CronPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CronPattern({:?})", self.written)
    }
}

/// The numbers that one field names.
fn set(name: &str, field: &str, range: RangeInclusive<u8>, words: &[&str]) -> Result<u64, String> {
    let fault = || format!("{field:?} is no {name}; write * or numbers from {} to {}", range.start(), range.end());
    let mut set = 0;
    for part in field.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, step.parse().ok().filter(|step| *step > 0).ok_or_else(fault)?),
            None => (part, 1),
        };
        let number = |text: &str| number(text, &range, words).ok_or_else(fault);
        let (first, last) = match span.split_once('-') {
            _ if span == "*" => (*range.start(), *range.end()),
            Some((first, last)) => (number(first)?, number(last)?),
            // `5/10` stands for `5-59/10`.
            None if part.contains('/') => (number(span)?, *range.end()),
            None => (number(span)?, number(span)?),
        };
        if first > last {
            return Err(fault());
        }
        set |= (first..=last).step_by(step).fold(0, |set, number| set | 1 << number);
    }
    Ok(set)
}

fn number(text: &str, range: &RangeInclusive<u8>, words: &[&str]) -> Option<u8> {
    let word = words.iter().position(|word| text.eq_ignore_ascii_case(word));
    let number = match word {
        Some(index) => u8::try_from(index).ok()? + range.start(),
        // `parse` alone would take a sign.
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
        None => return None,
    };
    range.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sunday, 22 November 2026, at `hour`:`minute`.
    fn sunday(hour: u8, minute: u8) -> WallMinute {
        WallMinute { minute, hour, day: 22, month: 11, weekday: 0 }
    }

    fn check(pattern: &str, minute: WallMinute, expected: bool) {
        let parsed: CronPattern = pattern.parse().unwrap();
        assert_eq!(parsed.matches(minute), expected, "{pattern} at {minute:?}");
    }

    #[test]
    fn each_field_is_held_against_the_wall() {
        check("* 11 * * 0", sunday(11, 0), true);
        check("* 11 * * 0", sunday(11, 59), true);
        check("* 11 * * 0", sunday(12, 0), false);
        check("* 11 * * 1", sunday(11, 0), false);
        check("* 11 * * 7", sunday(11, 0), true);
        check("* 11 * * SUN", sunday(11, 0), true);
        check("30 4 * nov *", sunday(4, 30), true);
        check("30 4 * 10,12 *", sunday(4, 30), false);
        check("*/20 * * * *", sunday(4, 40), true);
        check("*/20 * * * *", sunday(4, 41), false);
        check("5/20 * * * *", sunday(4, 45), true);
        check("0 9-17/4 * * *", sunday(13, 0), true);
        check("0 9-17/4 * * *", sunday(14, 0), false);
    }

    #[test]
    fn every_minute_is_seen_however_it_is_written() {
        for pattern in [
            "* * * * *",
            "*/1 * * * *",
            "0-59 * * * *",
            "0-29,30-59 0-23/1 1-31 jan-dec sun-sat",
            "* * * * 1-7",
            "* * 1-31 * 0",
        ] {
            assert!(pattern.parse::<CronPattern>().unwrap().names_every_minute(), "{pattern}");
        }
        for pattern in
            ["* 11 * * 0", "*/2 * * * *", "0-58 * * * *", "* * 1-30 * *", "* * * * 1-6", "* * 1 * 0", "* * * 1-11 *"]
        {
            assert!(!pattern.parse::<CronPattern>().unwrap().names_every_minute(), "{pattern}");
        }
    }

    #[test]
    fn of_two_days_either_is_enough_as_crontab_has_it() {
        check("0 4 1 * 0", sunday(4, 0), true);
        check("0 4 22 * 1", sunday(4, 0), true);
        check("0 4 1 * 1", sunday(4, 0), false);
        check("0 4 1 * *", sunday(4, 0), false);
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_the_field_named() {
        for (wrong, named) in [
            ("", "has 0 fields"),
            ("0 4 * *", "has 4 fields"),
            ("0 0 4 * * *", "has 6 fields"),
            ("60 4 * * *", "\"60\" is no minute"),
            ("0 24 * * *", "\"24\" is no hour"),
            ("0 4 0 * *", "\"0\" is no day of month"),
            ("0 4 * 13 *", "\"13\" is no month"),
            ("0 4 * * 8", "\"8\" is no weekday"),
            ("0 4 * * fry", "\"fry\" is no weekday"),
            ("*/0 4 * * *", "\"*/0\" is no minute"),
            ("9-5 4 * * *", "\"9-5\" is no minute"),
            ("+5 4 * * *", "\"+5\" is no minute"),
            (", 4 * * *", "\",\" is no minute"),
        ] {
            let fault = wrong.parse::<CronPattern>().unwrap_err();
            assert!(fault.contains(named), "{wrong:?}: {fault}");
        }
    }
}
