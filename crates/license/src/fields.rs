//! The five fields of a license as they are written, with the place of each.

use std::fmt;

use crate::{properties, shell};

/// A field of a license.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Whom it was given to.
    Licensee,
    /// Simultaneous connections.
    MaxConnections,
    /// The last day.
    Expiration,
    /// The server that it is for; `none` when it is left out.
    Locator,
    /// The signature over the others.
    Signature,
}

impl Field {
    /// All fields, in the order in which they are written.
    pub const ALL: [Self; 5] = [Self::Licensee, Self::MaxConnections, Self::Expiration, Self::Locator, Self::Signature];

    /// The environment variable, also in a `codetogether.config`.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Licensee => "CT_LICENSEE",
            Self::MaxConnections => "CT_MAXCONNECTIONS",
            Self::Expiration => "CT_EXPIRATION",
            Self::Locator => "CT_LOCATOR",
            Self::Signature => "CT_SIGNATURE",
        }
    }

    /// The key in a `licensing.properties`.
    #[must_use]
    pub fn property(self) -> &'static str {
        match self {
            Self::Licensee => "licensee",
            Self::MaxConnections => "maxconnections",
            Self::Expiration => "expiration",
            Self::Locator => "locator",
            Self::Signature => "signature",
        }
    }

    /// The setting in the section `[license]` of the settings.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            other => other.property(),
        }
    }

    /// The field that a property's key means. Case, `CT_` before it and `_`, `-` and `.` within it do not matter.
    fn of_property(key: &str) -> Option<Self> {
        let letters: String = key.to_ascii_lowercase().chars().filter(|letter| !"_-.".contains(*letter)).collect();
        Self::ALL.into_iter().find(|field| letters.strip_prefix("ct").unwrap_or(&letters) == field.property())
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Java properties, like `licensing.properties`.
    Properties,
    /// Assignments for a shell, like `codetogether.config`.
    Shell,
}

/// Where a license is written wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Malformed {
    /// A variable, or a file and its line.
    pub place: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl Malformed {
    /// `problem` at `place`.
    pub fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

/// What one source says: variables, or one file. Debug output does not show the values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// The file's name; `None` for variables.
    file: Option<String>,
    values: [Option<Value>; Field::ALL.len()],
}

#[derive(Clone, PartialEq, Eq)]
struct Value {
    text: String,
    line: usize,
}

impl Fields {
    /// What variables, or settings of the same names, say. An empty one counts as none.
    #[must_use]
    pub fn from_values(value_of: impl Fn(Field) -> Option<String>) -> Self {
        let mut fields = Self { file: None, values: Default::default() };
        for field in Field::ALL {
            fields.put(field, value_of(field).unwrap_or_default(), 0);
        }
        fields
    }

    /// What the text of the file `name` says. Of two values for one field the later counts, as for Java and for a shell.
    pub fn from_file(name: &str, kind: FileKind, text: &str) -> Result<Self, Malformed> {
        let mut fields = Self { file: Some(name.to_owned()), values: Default::default() };
        match kind {
            FileKind::Properties => fields.read_properties(text)?,
            FileKind::Shell => fields.read_shell(text)?,
        }
        Ok(fields)
    }

    /// Whether there is nothing of a license.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }

    /// The value of a field.
    #[must_use]
    pub fn value(&self, field: Field) -> Option<&str> {
        self.values[field as usize].as_ref().map(|value| value.text.as_str())
    }

    /// Where a field stands, or where it is missing. A variable counts as its setting, so that both are named.
    pub(crate) fn place(&self, field: Field) -> String {
        match (&self.file, &self.values[field as usize]) {
            (None, _) => format!("{} (license.{})", field.variable(), field.setting()),
            (Some(file), Some(value)) => format!("{file} line {} ({})", value.line, field.property()),
            (Some(file), None) => format!("{file} ({})", field.property()),
        }
    }

    fn read_properties(&mut self, text: &str) -> Result<(), Malformed> {
        let entries = properties::parse(text).map_err(|fault| self.malformed(fault.line, &fault.problem))?;
        let first = entries.first().map(|entry| entry.line);
        for entry in entries {
            if let Some(field) = Field::of_property(&entry.key) {
                self.put(field, entry.value, entry.line);
            }
        }
        match first {
            // A file of other properties is a mistake that an evaluation would hide.
            Some(line) if self.is_empty() => Err(self.malformed(line, "there is nothing of a license in this file")),
            _ => Ok(()),
        }
    }

    fn read_shell(&mut self, text: &str) -> Result<(), Malformed> {
        let assignments = shell::parse(text).map_err(|fault| self.malformed(fault.line, &fault.problem))?;
        for assignment in assignments {
            let Some(field) = Field::ALL.into_iter().find(|field| field.variable() == assignment.name) else {
                continue;
            };
            let Some(value) = assignment.value else {
                let problem = format!(
                    "{} has something that a shell would replace ($ or `); write the value itself, in single quotes",
                    assignment.name
                );
                return Err(self.malformed(assignment.line, &problem));
            };
            self.put(field, value, assignment.line);
        }
        Ok(())
    }

    fn put(&mut self, field: Field, text: String, line: usize) {
        let text = text.trim();
        self.values[field as usize] = (!text.is_empty()).then(|| Value { text: text.to_owned(), line });
    }

    fn malformed(&self, line: usize, problem: &str) -> Malformed {
        Malformed::new(format!("{} line {line}", self.file.as_deref().unwrap_or_default()), problem)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fields").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The text of a file: UTF-8, or else Latin-1, which is what Java writes properties in.
#[must_use]
pub fn file_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_property_may_have_the_name_of_its_variable() {
        for key in ["maxconnections", "maxConnections", "CT_MAXCONNECTIONS", "max.connections", "max_connections"] {
            assert_eq!(Field::of_property(key), Some(Field::MaxConnections), "{key}");
        }
        assert_eq!(Field::of_property("connections"), None);
        assert_eq!(Field::of_property("locator"), Some(Field::Locator));
    }

    #[test]
    fn an_empty_value_counts_as_none_and_the_later_of_two_counts() {
        let fields = Fields::from_file("f", FileKind::Properties, "licensee=\nlocator=a\nlocator=b\n").unwrap();
        assert_eq!((fields.value(Field::Licensee), fields.value(Field::Locator)), (None, Some("b")));
        assert_eq!(fields.place(Field::Locator), "f line 3 (locator)");
        assert!(Fields::from_values(|_| Some(" ".into())).is_empty());
    }

    #[test]
    fn a_config_without_a_license_has_none_and_properties_of_something_else_are_a_mistake() {
        let config = "export CT_SERVER_URL=\"https://$(hostname)\"\nif true; then echo 'x'; fi\n";
        assert!(Fields::from_file("f", FileKind::Shell, config).unwrap().is_empty());
        assert!(Fields::from_file("f", FileKind::Properties, "# nothing\n\n").unwrap().is_empty());
        let fault = Fields::from_file("f", FileKind::Properties, "\nlicencee=x\n").unwrap_err();
        assert_eq!(fault.to_string(), "f line 2: there is nothing of a license in this file");
    }

    #[test]
    fn what_a_shell_would_replace_is_not_guessed() {
        let fault = Fields::from_file("f", FileKind::Shell, "\nexport CT_LICENSEE=\"$ME\"\n").unwrap_err();
        assert!(fault.to_string().starts_with("f line 2: CT_LICENSEE has something"), "{fault}");
    }

    #[test]
    fn a_file_is_utf_8_or_else_latin_1() {
        assert_eq!(file_text("\u{feff}Müller".as_bytes()), "Müller");
        assert_eq!(file_text(b"M\xfcller"), "Müller");
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(\\PC|[\n\r\t\\\\='\"# $`])*") {
            for text in [file_text(&bytes), text] {
                for kind in [FileKind::Properties, FileKind::Shell] {
                    let _ = Fields::from_file("f", kind, &text);
                }
            }
        }
    }
}
