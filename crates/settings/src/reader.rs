//! Reading settings by declaration.
//!
//! A setting is declared in one place, the call that reads it: its name, what it means, its default and its range.
//! The reader notes every declaration with the value that it got, so that the same calls that settle a file also write
//! the commented default file and the effective file of the running edge, and none of the three can drift.
//!
//! A fault never ends the reading: the default stands in, and the next setting is read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::document::Document;
use crate::fault::{Fault, Origin};
use crate::value::{Item, Value, Written};

/// The width that comments of a written file are wrapped at.
const COMMENT_COLUMNS: usize = 100;

/// Reads settings out of a document.
pub(crate) struct Reader {
    document: Document,
    pub(crate) faults: Vec<Fault>,
    written: String,
    /// Every setting as it counts, by its full name; a list of sections as all of its rows.
    values: BTreeMap<String, String>,
    /// Full names of all declared settings with where their values came from.
    declared: Vec<(String, Origin)>,
    /// Names of lists of sections.
    lists: Vec<&'static str>,
}

/// A file as it was understood.
#[derive(Clone)]
pub(crate) struct Understood {
    /// The whole file with every setting as it counts.
    pub(crate) written: String,
    /// The same by the settings' full names.
    pub(crate) values: BTreeMap<String, String>,
}

/// Reads the settings of one section.
pub(crate) struct Section<'r> {
    reader: &'r mut Reader,
    name: &'static str,
}

impl Reader {
    pub(crate) fn new(document: Document, faults: Vec<Fault>) -> Self {
        Self {
            document,
            faults,
            written: String::new(),
            values: BTreeMap::new(),
            declared: Vec::new(),
            lists: Vec::new(),
        }
    }

    /// The section `name`, `""` for the settings above all sections.
    pub(crate) fn section(&mut self, name: &'static str, doc: &str) -> Section<'_> {
        if !name.is_empty() {
            self.written.push('\n');
        }
        comment(&mut self.written, doc);
        if !name.is_empty() {
            writeln!(self.written, "[{name}]").expect("writing to a String cannot fail");
        }
        // `[section]` without a setting in it is no unknown setting.
        if self.document.items.get(name).is_some_and(|item| matches!(item.value, Value::Table(_))) {
            self.document.items.remove(name);
        }
        Section { reader: self, name }
    }

    /// The rows of `[[name]]`, each read by `read`. `example` is what the written file shows where there are none.
    pub(crate) fn rows<T>(
        &mut self,
        name: &'static str,
        doc: &str,
        example: &str,
        mut read: impl FnMut(&mut Row<'_>) -> Option<T>,
    ) -> Vec<T> {
        self.written.push('\n');
        comment(&mut self.written, doc);
        let item = self.document.items.remove(name);
        self.lists.push(name);
        self.declared.push((name.to_owned(), item.as_ref().map_or(Origin::Default, |item| item.origin.clone())));
        let Some(item) = item else {
            comment(&mut self.written, example);
            return Vec::new();
        };
        let Value::List(items) = item.value else {
            self.fault_at(item.origin, name, format!("is a list of sections: write each as [[{name}]]"));
            return Vec::new();
        };
        let begin = self.written.len();
        let mut values = Vec::new();
        for item in items {
            let Value::Table(fields) = item.value else {
                self.fault_at(item.origin, name, format!("is a list of sections: write each as [[{name}]]"));
                continue;
            };
            writeln!(self.written, "[[{name}]]").expect("writing to a String cannot fail");
            let origin = fields.values().next().map_or(item.origin, |first| first.origin.clone());
            let mut row = Row { reader: self, name, origin, fields, known: Vec::new() };
            let value = read(&mut row);
            row.finish();
            values.extend(value);
        }
        self.values.insert(name.to_owned(), self.written[begin..].to_owned());
        values
    }

    /// Reports a fault of a setting that was read, or of a missing one.
    pub(crate) fn fault(&mut self, setting: &str, problem: impl Into<String>) {
        let origin = self
            .declared
            .iter()
            .find(|(name, _)| name == setting)
            .map_or(Origin::Default, |(_, origin)| origin.clone());
        self.fault_at(origin, setting, problem.into());
    }

    fn fault_at(&mut self, origin: Origin, setting: &str, problem: String) {
        self.faults.push(Fault { origin, setting: setting.to_owned(), problem });
    }

    /// What is wrong with a name that nobody read.
    fn unknown(&self, name: &str) -> String {
        let mut known = self.declared.iter().map(|(known, _)| known.as_str());
        if known.any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))) {
            return format!("is a section: write [{name}] and its settings below");
        }
        let section = name.split('.').next().unwrap_or(name);
        if self.lists.contains(&section) {
            return format!("there is no such setting; {section} is a list: write [[{section}]]");
        }
        match nearest(name, self.declared.iter().map(|(known, _)| known.as_str())) {
            Some(known) => format!("there is no such setting; is {known} meant?"),
            None => "there is no such setting; `ctedge default-config` shows all".to_owned(),
        }
    }

    /// Reports what nobody read, and gives all faults in the order of the file, and the file as it was understood.
    pub(crate) fn finish(mut self) -> (Understood, Vec<Fault>) {
        for (name, item) in std::mem::take(&mut self.document.items) {
            let problem = self.unknown(&name);
            self.faults.push(Fault { origin: item.origin, setting: name, problem });
        }
        self.faults.sort_by_key(Fault::rank);
        (Understood { written: self.written, values: self.values }, self.faults)
    }
}

impl Section<'_> {
    /// A setting of any value of its type.
    pub(crate) fn any<T: Written>(&mut self, name: &str, doc: &str, default: T) -> T {
        self.read(name, doc, default, |_| Ok(()))
    }

    /// A setting with a range.
    pub(crate) fn within<T: Written + PartialOrd>(
        &mut self,
        name: &str,
        doc: &str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let (least, most) = (range.start().write(), range.end().write());
        let doc = format!("{doc} From {least} to {most}.");
        self.read(name, &doc, default, |value| {
            if range.contains(value) { Ok(()) } else { Err(format!("{} is not from {least} to {most}", value.write())) }
        })
    }

    /// A setting that is one of some words; the first is the default.
    pub(crate) fn one_of<T: Copy>(&mut self, name: &str, doc: &str, words: &[(&str, T)]) -> T {
        let (default, mut chosen) = words[0];
        let all = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let doc = format!("{doc} One of {all}.");
        self.read(name, &doc, default.to_owned(), |text| match words.iter().find(|(word, _)| word == text) {
            Some((_, value)) => {
                chosen = *value;
                Ok(())
            }
            None => Err(format!("{text:?} is none of {all}")),
        });
        chosen
    }

    /// A setting that `accept` judges; its fault says what to write instead.
    pub(crate) fn read<T: Written>(
        &mut self,
        name: &str,
        doc: &str,
        default: T,
        accept: impl FnOnce(&T) -> Result<(), String>,
    ) -> T {
        let full_name = if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) };
        let item = self.reader.document.items.remove(&full_name);
        let origin = item.as_ref().map_or(Origin::Default, |item| item.origin.clone());
        let mut value = default;
        if let Some(item) = item {
            match T::read(&item.value).and_then(|read| accept(&read).map(|()| read)) {
                Ok(read) => value = read,
                Err(problem) => self.reader.fault_at(item.origin, &full_name, problem),
            }
        }
        comment(&mut self.reader.written, doc);
        let written = value.write();
        writeln!(self.reader.written, "{name} = {written}").expect("writing to a String cannot fail");
        self.reader.values.insert(full_name.clone(), written);
        self.reader.declared.push((full_name, origin));
        value
    }
}

/// Reads the fields of one row of `[[section]]`.
pub(crate) struct Row<'r> {
    reader: &'r mut Reader,
    name: &'static str,
    /// The row's first line.
    origin: Origin,
    fields: BTreeMap<String, Item>,
    known: Vec<&'static str>,
}

impl Row<'_> {
    /// A field that every row has. `None` with a fault where it is missing or wrong.
    pub(crate) fn required<T: Written>(
        &mut self,
        field: &'static str,
        accept: impl FnOnce(&T) -> Result<(), String>,
    ) -> Option<T> {
        self.known.push(field);
        let Some(item) = self.fields.remove(field) else {
            self.fault(format!("needs a setting {field}"));
            return None;
        };
        self.read(field, &item, accept)
    }

    /// A field with a default.
    pub(crate) fn optional<T: Written>(
        &mut self,
        field: &'static str,
        default: T,
        accept: impl FnOnce(&T) -> Result<(), String>,
    ) -> Option<T> {
        self.known.push(field);
        match self.fields.remove(field) {
            Some(item) => self.read(field, &item, accept),
            None => Some(default),
        }
    }

    /// Reports a fault of the row.
    pub(crate) fn fault(&mut self, problem: String) {
        self.reader.fault_at(self.origin.clone(), self.name, problem);
    }

    fn read<T: Written>(
        &mut self,
        field: &str,
        item: &Item,
        accept: impl FnOnce(&T) -> Result<(), String>,
    ) -> Option<T> {
        match T::read(&item.value).and_then(|value| accept(&value).map(|()| value)) {
            Ok(value) => {
                writeln!(self.reader.written, "{field} = {}", value.write()).expect("writing to a String cannot fail");
                Some(value)
            }
            Err(problem) => {
                self.reader.fault_at(item.origin.clone(), &format!("{}.{field}", self.name), problem);
                None
            }
        }
    }

    fn finish(self) {
        for (field, item) in self.fields {
            let problem = match nearest(&field, self.known.iter().copied()) {
                Some(known) => format!("there is no such setting; is {known} meant?"),
                None => format!("there is no such setting; there are {}", self.known.join(", ")),
            };
            self.reader.fault_at(item.origin, &format!("{}.{field}", self.name), problem);
        }
    }
}

/// The known name that `name` is most probably meant to be: the most similar one, if it is similar at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The value at which a slip of the pen is told from another word; the command line's parser has it as well.
    const SIMILAR: f64 = 0.8;
    known
        .map(|candidate| (similarity(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// A setting written in the wrong section has the same last word; it counts as nearly the same.
fn similarity(name: &str, candidate: &str) -> f64 {
    let last = |full: &str| full.rsplit('.').next().map(str::to_owned);
    let whole = strsim::jaro(name, candidate);
    if last(name) == last(candidate) { whole.max(0.9) + whole / 100.0 } else { whole }
}

/// Appends `text` as wrapped comment lines; its own line breaks are kept, and an empty line stays empty.
fn comment(written: &mut String, text: &str) {
    for paragraph in text.lines() {
        if paragraph.is_empty() {
            written.push('\n');
            continue;
        }
        let mut line = "#".to_owned();
        for word in paragraph.split(' ') {
            if line.len() > 1 && line.len() + word.len() >= COMMENT_COLUMNS {
                written.push_str(&line);
                written.push('\n');
                line.truncate(1);
            }
            line.push(' ');
            line.push_str(word);
        }
        written.push_str(&line);
        written.push('\n');
    }
}
