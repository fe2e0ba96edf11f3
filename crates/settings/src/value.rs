//! Values as they are written, and the types they are read into.
//!
//! A type that a setting can have implements [`Written`]: it reads itself from a [`Value`] with a fault that says what
//! to write instead, and writes itself as TOML.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Origin;
use crate::settled::BearerToken;

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `"text"`
    Text(String),
    /// `3`
    Integer(i64),
    /// `0.25`
    Float(f64),
    /// `true`
    Switch(bool),
    /// `["a", "b"]`, and the rows of `[[section]]`.
    List(Vec<Item>),
    /// One row of `[[section]]`, or an inline table.
    Table(BTreeMap<String, Item>),
    /// A kind that no setting has.
    Date,
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

impl Value {
    /// The kind of value, for faults.
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a fraction",
            Self::Switch(_) => "a switch",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
            Self::Date => "a date",
        }
    }
}

/// A type that a setting can have.
pub(crate) trait Written: Sized {
    /// Reads the value; the fault says what to write instead.
    fn read(value: &Value) -> Result<Self, String>;
    /// The value as TOML.
    fn write(&self) -> String;
}

fn expected<T>(what: &str, value: &Value) -> Result<T, String> {
    match value {
        Value::Text(text) => Err(format!("{text:?} is not {what}")),
        Value::Integer(number) => Err(format!("{number} is not {what}")),
        other => Err(format!("{} stands where {what} belongs", other.kind())),
    }
}

fn text_of<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => expected(what, other),
    }
}

/// `text` as a TOML basic string. JSON's escapes are a part of TOML's.
pub(crate) fn quoted(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for character in text.chars() {
        match character {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\0'..='\x1f' | '\x7f' => written.push_str(&format!("\\u{:04X}", u32::from(character))),
            other => written.push(other),
        }
    }
    written.push('"');
    written
}

impl Written for String {
    fn read(value: &Value) -> Result<Self, String> {
        text_of(value, "text in quotes").map(str::to_owned)
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

impl Written for BearerToken {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text.as_str().into()),
            // The value itself stays out of the fault.
            _ => Err("a token stands in quotes".to_owned()),
        }
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

impl Written for PathBuf {
    fn read(value: &Value) -> Result<Self, String> {
        text_of(value, "a path in quotes").map(Self::from)
    }

    fn write(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Written for bool {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Switch(on) => Ok(*on),
            other => expected("true or false, without quotes", other),
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Written for $number {
            fn read(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Integer(number) => Self::try_from(*number)
                        .map_err(|_| format!("{number} is not between 0 and {}", Self::MAX)),
                    other => expected("a whole number without quotes", other),
                }
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

whole_numbers!(u16, u32, usize);

impl Written for f64 {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Float(number) if number.is_finite() => Ok(*number),
            // Every whole number that a setting may have is exact as a fraction.
            Value::Integer(number) => Ok(*number as Self),
            other => expected("a number without quotes", other),
        }
    }

    fn write(&self) -> String {
        format!("{self:?}")
    }
}

impl Written for SocketAddr {
    fn read(value: &Value) -> Result<Self, String> {
        let what = "an address with a port, like \"127.0.0.1:1080\" or \"[::1]:1080\"";
        let text = text_of(value, what)?;
        text.parse().or_else(|_| expected(what, value))
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

/// A thing that `""` switches off.
impl Written for IpAddr {
    fn read(value: &Value) -> Result<Self, String> {
        let what = "an IP address, like \"10.0.0.11\"";
        let text = text_of(value, what)?;
        text.parse().or_else(|_| expected(what, value))
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl<T: Written> Written for Option<T> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) if text.is_empty() => Ok(None),
            other => T::read(other).map(Some),
        }
    }

    fn write(&self) -> String {
        self.as_ref().map_or_else(|| quoted(""), T::write)
    }
}

impl<T: Written> Written for Vec<T> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(items) => items.iter().map(|item| T::read(&item.value)).collect(),
            other => expected("a list in brackets", other),
        }
    }

    fn write(&self) -> String {
        format!("[{}]", self.iter().map(T::write).collect::<Vec<_>>().join(", "))
    }
}

/// Units of time with their length in milliseconds, the largest first.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Written for Duration {
    fn read(value: &Value) -> Result<Self, String> {
        let what = "a time with its unit, like \"500ms\", \"30s\", \"10m\" or \"1h\"";
        let text = text_of(value, what)?;
        match parse_with_unit(text, &TIME_UNITS) {
            Some(milliseconds) => Ok(Self::from_millis(milliseconds)),
            None => expected(what, value),
        }
    }

    fn write(&self) -> String {
        quoted(&with_unit(u64::try_from(self.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS))
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// Units of size with their bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Written for Size {
    fn read(value: &Value) -> Result<Self, String> {
        let what = "a size with its unit, like \"64KiB\" or \"16MiB\"";
        let text = text_of(value, what)?;
        parse_with_unit(text, &SIZE_UNITS).map(Self).map_or_else(|| expected(what, value), Ok)
    }

    fn write(&self) -> String {
        quoted(&with_unit(self.0, &SIZE_UNITS))
    }
}

/// One whole number and one unit, with or without a space between them.
fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The amount in the largest unit that divides it.
fn with_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor));
    let (name, factor) = unit.or(units.last()).expect("there are units");
    format!("{}{name}", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Written + PartialEq + std::fmt::Debug>(text: &str, expected: Option<T>) {
        let read = T::read(&Value::Text(text.into()));
        assert_eq!(read.as_ref().ok(), expected.as_ref(), "{text:?}: {read:?}");
        if let Some(value) = expected {
            let written = value.write();
            let text = written.trim_matches('"');
            assert_eq!(
                T::read(&Value::Text(text.into())),
                Ok(value),
                "{written} is not read as what it was written from"
            );
        }
    }

    #[test]
    fn times_have_units() {
        check("30s", Some(Duration::from_secs(30)));
        check("10m", Some(Duration::from_secs(600)));
        check("1h", Some(Duration::from_secs(3600)));
        check("1500 ms", Some(Duration::from_millis(1500)));
        check("0s", Some(Duration::ZERO));
        for wrong in ["30", "s", "", "-1s", "1d", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            check::<Duration>(wrong, None);
        }
    }

    #[test]
    fn sizes_have_units() {
        check("64KiB", Some(Size(65_536)));
        check("16 MiB", Some(Size(16 << 20)));
        check("100B", Some(Size(100)));
        for wrong in ["64", "64KB", "64kib", "1TiB"] {
            check::<Size>(wrong, None);
        }
    }

    #[test]
    fn an_amount_is_written_in_its_largest_exact_unit() {
        assert_eq!(Duration::from_secs(90).write(), "\"90s\"");
        assert_eq!(Duration::from_secs(3600).write(), "\"1h\"");
        assert_eq!(Size(0).write(), "\"0B\"");
        assert_eq!(Size(65_537).write(), "\"65537B\"");
    }

    #[test]
    fn text_is_quoted_so_that_toml_reads_it_back() {
        let text = "a\"b\\c\nd\te\u{7f}ü";
        let document = format!("x = {}", quoted(text));
        let table: toml::Table = document.parse().unwrap();
        assert_eq!(table["x"].as_str(), Some(text));
    }
}
