//! The settings file as TOML, flattened: the full name of each setting, its value, and the line it stands on.
//!
//! Flat, because that makes three things simple: an override replaces one entry, an unknown key is an entry that nobody
//! read, and a suggestion is the nearest of the names that were read.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Fault, Origin};
use crate::value::{Item, Value};

/// Settings by their full names.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) items: BTreeMap<String, Item>,
}

impl Document {
    /// Reads `text`. Faults of the notation do not hide the settings that could be read.
    pub(crate) fn parse(text: &str, faults: &mut Vec<Fault>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        for error in errors {
            let origin = error.span().map_or(Origin::Default, |span| lines.origin(span.start));
            let problem = error.message().to_owned();
            faults.push(Fault { origin, setting: String::new(), problem });
        }
        let mut document = Self::default();
        document.flatten("", table.get_ref(), &lines);
        document
    }

    /// Adds the entries of `table`, whose full name is `section`.
    fn flatten(&mut self, section: &str, table: &DeTable<'_>, lines: &Lines) {
        for (key, value) in table {
            let name = join(section, key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() => self.flatten(&name, inner, lines),
                _ => {
                    // The key's line, not the value's: a fault is looked for where its name stands.
                    let origin = lines.origin(key.span().start);
                    self.items.insert(name, Item { value: convert(value, lines), origin });
                }
            }
        }
    }
}

fn join(section: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let key = if is_bare { key.to_owned() } else { crate::value::quoted(key) };
    if section.is_empty() { key } else { format!("{section}.{key}") }
}

fn convert(value: &Spanned<DeValue<'_>>, lines: &Lines) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Text(number.to_string()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::Text(number.to_string()), Value::Float)
        }
        DeValue::Boolean(on) => Value::Switch(*on),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Item { value: convert(item, lines), origin: lines.origin(item.span().start) })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| {
                    let origin = lines.origin(key.span().start);
                    (key.get_ref().to_string(), Item { value: convert(value, lines), origin })
                })
                .collect(),
        ),
    }
}

/// Where each line of a text begins.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::Line(self.starts.partition_point(|start| *start <= at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_full_name_and_its_line() {
        let mut faults = Vec::new();
        let text = "a = 1\n[b]\nc = 'x'\n[b.d]\n\ne.f = true\n[[g]]\nh = 2\n";
        let document = Document::parse(text, &mut faults);
        let names: Vec<_> = document.items.iter().map(|(name, item)| (name.as_str(), item.origin.clone())).collect();
        assert_eq!(faults, []);
        assert_eq!(names[0], ("a", Origin::Line(1)));
        assert_eq!(names[1], ("b.c", Origin::Line(3)));
        assert_eq!(names[2], ("b.d.e.f", Origin::Line(6)));
        assert_eq!(names[3].0, "g");
    }

    #[test]
    fn a_quoted_key_is_not_taken_for_a_section() {
        let document = Document::parse("\"a.b\" = 1", &mut Vec::new());
        assert!(document.items.contains_key("\"a.b\""));
    }

    #[test]
    fn what_is_no_toml_is_reported_with_its_line_and_the_rest_is_read() {
        let mut faults = Vec::new();
        let document = Document::parse("a = 1\nb = \nc = 3\n", &mut faults);
        assert_eq!(faults[0].origin, Origin::Line(2), "{faults:?}");
        assert!(document.items.contains_key("a") && document.items.contains_key("c"));
    }
}
