//! Java properties files, as `java.util.Properties.load` reads them.

use std::iter::Peekable;
use std::str::Chars;

/// One entry of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The line that it begins on, counted from 1.
    pub line: usize,
    /// Its key, without escapes.
    pub key: String,
    /// Its value, without escapes.
    pub value: String,
}

/// What Java would refuse, too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SyntaxFault {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// The entries of `text` in their order.
pub fn parse(text: &str) -> Result<Vec<Property>, SyntaxFault> {
    let mut entries = Vec::new();
    for (line, logical) in LogicalLines::of(text) {
        let (key, value) = split(&logical);
        let unescaped = |part: &str| {
            unescape(part).ok_or_else(|| SyntaxFault {
                line,
                problem: "a \\u is followed by the four digits of a character".to_owned(),
            })
        };
        entries.push(Property { line, key: unescaped(key)?, value: unescaped(value)? });
    }
    Ok(entries)
}

/// `value` as it stands behind `key=`, so that [`parse`] and Java give it back. Plain ASCII, because Java reads files as
/// Latin-1 unless told otherwise.
#[must_use]
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (at, character) in value.char_indices() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // White space before a value is not part of it.
            ' ' if at == 0 => escaped.push_str("\\ "),
            ' '..='~' => escaped.push(character),
            other => {
                let mut units = [0; 2];
                other.encode_utf16(&mut units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }
    escaped
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

/// The lines of a file, each with those that continue it, without comments and empty lines.
struct LogicalLines<'t> {
    lines: Peekable<NaturalLines<'t>>,
}

impl<'t> LogicalLines<'t> {
    fn of(text: &'t str) -> Self {
        Self { lines: NaturalLines { rest: Some(text), number: 0 }.peekable() }
    }
}

impl Iterator for LogicalLines<'_> {
    type Item = (usize, String);

    fn next(&mut self) -> Option<(usize, String)> {
        loop {
            let (number, line) = self.lines.next()?;
            let line = line.trim_start_matches(is_blank);
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = line.to_owned();
            // An odd number of backslashes: the last of them is no escaped one.
            while logical.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
                logical.pop();
                let Some((_, continued)) = self.lines.next() else { break };
                logical.push_str(continued.trim_start_matches(is_blank));
            }
            return Some((number, logical));
        }
    }
}

/// Lines that end with `\n`, `\r` or `\r\n`, with their numbers.
struct NaturalLines<'t> {
    rest: Option<&'t str>,
    number: usize,
}

impl<'t> Iterator for NaturalLines<'t> {
    type Item = (usize, &'t str);

    fn next(&mut self) -> Option<(usize, &'t str)> {
        let rest = self.rest.take()?;
        self.number += 1;
        let Some(end) = rest.find(['\n', '\r']) else { return Some((self.number, rest)) };
        let after = &rest[end..];
        self.rest = after.strip_prefix("\r\n").or_else(|| after.get(1..));
        Some((self.number, &rest[..end]))
    }
}

/// Key and value of a logical line, with their escapes.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, character)| {
        let ends = !escaped && (is_blank(*character) || "=:".contains(*character));
        escaped = !escaped && *character == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.map_or(line.len(), |(at, _)| at));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(is_blank))
}

/// `part` without its escapes; `None` for a `\u` that names no character.
fn unescape(part: &str) -> Option<String> {
    let mut text = String::with_capacity(part.len());
    let mut characters = part.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('f') => text.push('\u{c}'),
            Some('u') => text.push(unicode(&mut characters)?),
            Some(other) => text.push(other),
            None => {}
        }
    }
    Some(text)
}

/// The character behind `\u`: one UTF-16 unit, or two with another `\u` between them.
fn unicode(characters: &mut Chars<'_>) -> Option<char> {
    let first = unit(characters)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(u32::from(first));
    }
    let pair = [first, (characters.next()? == '\\' && characters.next()? == 'u').then(|| unit(characters))??];
    char::decode_utf16(pair).next()?.ok()
}

fn unit(characters: &mut Chars<'_>) -> Option<u16> {
    let digit = |_| characters.next()?.to_digit(16);
    let digits: Vec<u32> = (0..4).map(digit).collect::<Option<_>>()?;
    u16::try_from(digits.into_iter().fold(0, |number, digit| number * 16 + digit)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[(usize, &str, &str)]) {
        let entries = parse(text).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.line, &*entry.key, &*entry.value)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    /// The examples of the documentation of `java.util.Properties.load`.
    #[test]
    fn java_reads_the_same() {
        check("Truth = Beauty", &[(1, "Truth", "Beauty")]);
        check(" Truth:Beauty", &[(1, "Truth", "Beauty")]);
        check("Truth                    :Beauty", &[(1, "Truth", "Beauty")]);
        check(
            "fruits                           apple, banana, pear, \\\n                                 cantaloupe, watermelon, \\\n                                 kiwi, mango\n",
            &[(1, "fruits", "apple, banana, pear, cantaloupe, watermelon, kiwi, mango")],
        );
        check("cheeses\n", &[(1, "cheeses", "")]);
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_counted() {
        check("# a=1\r\n  ! b=2\\\n\n\tc=3\rd=4", &[(4, "c", "3"), (5, "d", "4")]);
    }

    #[test]
    fn escapes_stand_for_characters() {
        check("a\\ b\\=c\\:d e", &[(1, "a b=c:d", "e")]);
        check("k=\\u00fc\\t\\q\\\\", &[(1, "k", "ü\tq\\")]);
        check("k=\\ud83d\\ude00", &[(1, "k", "😀")]);
        check("k=a=b:c d ", &[(1, "k", "a=b:c d ")]);
        check("k=a\\\\\nb=c", &[(1, "k", "a\\"), (2, "b", "c")]);
        check("k=end\\", &[(1, "k", "end")]);
    }

    #[test]
    fn a_broken_character_is_refused_with_its_line() {
        for broken in ["k=\\u12", "k=\\u12g4", "k=\\ud83d", "k=\\ud83d\\u0041", "k=\\udc00", "k=\\u+123"] {
            assert_eq!(parse(&format!("a=b\n{broken}")).unwrap_err().line, 2, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(value in "(\\PC|[\n\r\t\\\\=:# ])*") {
            let entries = parse(&format!("key={}\n", escape(&value))).unwrap();
            prop_assert_eq!(entries.len(), 1);
            prop_assert_eq!((&*entries[0].key, &*entries[0].value), ("key", &*value));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|[\n\r\t\u{c}\\\\=:#! u0-9a-f])*") {
            let lines = text.split(['\n', '\r']).count();
            match parse(&text) {
                Ok(entries) => prop_assert!(entries.iter().all(|entry| entry.line >= 1 && entry.line <= lines)),
                Err(fault) => prop_assert!(fault.line >= 1 && fault.line <= lines),
            }
        }
    }
}
