//! What a client says of itself.

use std::cmp::Ordering;
use std::path::Path;

use serde::Serialize;

use super::archive::{Archive, Unfit};
use super::{eclipse, intellij, vscode};
use crate::ide::Ide;

/// What a client says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// What tells it from other clients of its editor.
    pub id: String,
    /// As people are shown it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The platform that it was built for, where it runs on one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// What it asks of its editor, like `VS Code ^1.90.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// What IntelliJ's list of plugins has beside this.
    #[serde(skip)]
    pub plugin: Option<Box<intellij::Plugin>>,
}

impl About {
    /// Reads the client for `ide` in the file at `path`.
    pub(super) fn read(ide: Ide, path: &Path) -> Result<Self, Unfit> {
        match ide {
            Ide::Eclipse => eclipse::read(path),
            Ide::IntelliJ => intellij::read(&mut Archive::open(path)?),
            Ide::VsCode => vscode::read(&mut Archive::open(path)?),
        }
    }
}

/// The order of two versions. Numbers count as numbers, and what follows a dash comes before the version without it
/// (Semantic Versioning, section 11); versions that keep to no rule have an order as well.
pub(crate) fn by_version(one: &str, other: &str) -> Ordering {
    parts(one).cmp(parts(other))
}

/// A part of a version. The order of these is the order of versions.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Earlier(&'a str),
    End,
    /// The number without zeros before it, its length first: numbers may have any length.
    Number(usize, &'a str),
    Text(&'a str),
}

fn parts(version: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = Some(version);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(first) = text.chars().next() else {
            rest = None;
            return Some(Part::End);
        };
        let is_number = first.is_ascii_digit();
        // A dash ends a part: 1.0-beta is 1, ".", 0, "-beta".
        let ends =
            |(at, character): (usize, char)| at > 0 && (character.is_ascii_digit() != is_number || character == '-');
        let end = text.char_indices().find(|at| ends(*at)).map_or(text.len(), |(at, _)| at);
        let (part, after) = text.split_at(end);
        rest = Some(after);
        Some(match part {
            number if is_number => {
                let digits = number.trim_start_matches('0');
                Part::Number(digits.len(), digits)
            }
            earlier if earlier.starts_with('-') => Part::Earlier(earlier),
            text => Part::Text(text),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_ordered_as_people_order_them() {
        let ordered = [
            "",
            "0.9",
            "0.10-alpha",
            "0.10-alpha.2",
            "0.10-alpha.10",
            "0.10-beta",
            "0.10",
            "0.10.1",
            "1.0-SNAPSHOT",
            "1.0",
            "1.0.0.20250101",
            "1.0.0.20260101",
            "2025.1.2",
            "2025.10",
        ];
        for pair in ordered.windows(2) {
            assert_eq!(by_version(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(by_version("1.007", "1.7"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn the_order_of_versions_is_one(one in "[0-9a.-]{0,6}", two in "[0-9a.-]{0,6}", three in "[0-9a.-]{0,6}") {
            prop_assert_eq!(by_version(&one, &two), by_version(&two, &one).reverse());
            if by_version(&one, &two).is_le() && by_version(&two, &three).is_le() {
                prop_assert!(by_version(&one, &three).is_le());
            }
        }
    }
}
