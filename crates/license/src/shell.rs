//! Assignments in a file that a shell sources, like `export CT_LICENSEE="Example Corp"`.
//!
//! Nothing is executed. The file is cut into words and commands as a POSIX shell does it, quotes and continuation lines
//! included; assignments are taken and all other commands are passed over, wherever they stand: one within an `if`
//! counts as well. The lines of a here-document are text and no commands. A value that the shell would have to work out (`$…` or a backquote) is known to be there, but has no
//! text.

use std::iter::Peekable;
use std::str::Chars;

pub use crate::properties::SyntaxFault;

/// One assignment of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The line that it begins on, counted from 1.
    pub line: usize,
    /// The variable.
    pub name: String,
    /// Its value; `None` where a shell would replace a part of it.
    pub value: Option<String>,
}

/// The assignments of `text` in their order.
pub fn parse(text: &str) -> Result<Vec<Assignment>, SyntaxFault> {
    let mut reader =
        Reader { characters: text.chars().peekable(), line: 1, documents: Vec::new(), is_arithmetic: false };
    let mut assignments = Vec::new();
    let mut command = Vec::new();
    loop {
        match reader.next_token()? {
            Token::Word(word) => command.push(word),
            Token::CommandEnd => take_assignments(&mut command, &mut assignments),
            Token::End => {
                take_assignments(&mut command, &mut assignments);
                return Ok(assignments);
            }
        }
    }
}

/// `value` in single quotes, so that [`parse`] and a shell give it back.
#[must_use]
pub fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

enum Token {
    Word(Word),
    CommandEnd,
    End,
}

/// A word without its quotes.
#[derive(Default)]
struct Word {
    line: usize,
    text: String,
    /// Where the `=` stands that makes it an assignment: behind a name that is not quoted.
    equals_at: Option<usize>,
    is_quoted: bool,
    is_replaced: bool,
}

impl Word {
    /// Adds a character that stands for itself and is not quoted.
    fn push_plain(&mut self, character: char) {
        if character == '=' && self.equals_at.is_none() && !self.is_quoted && is_name(&self.text) {
            self.equals_at = Some(self.text.len());
        }
        self.text.push(character);
    }

    fn push_quoted(&mut self, character: char) {
        self.is_quoted = true;
        self.text.push(character);
    }

    fn assignment(self) -> Option<Assignment> {
        let at = self.equals_at?;
        let value = (!self.is_replaced).then(|| self.text[at + 1..].to_owned());
        Some(Assignment { line: self.line, name: self.text[..at].to_owned(), value })
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The commands whose arguments are assignments.
const DECLARING: [&str; 4] = ["export", "readonly", "declare", "typeset"];

/// The assignments of one command: all of one that declares, and those of a command that is nothing else.
fn take_assignments(command: &mut Vec<Word>, assignments: &mut Vec<Assignment>) {
    let words = std::mem::take(command);
    let declares = words.first().is_some_and(|first| DECLARING.contains(&&*first.text));
    if declares || words.iter().all(|word| word.equals_at.is_some()) {
        assignments.extend(words.into_iter().filter_map(Word::assignment));
    }
}

struct Reader<'t> {
    characters: Peekable<Chars<'t>>,
    line: usize,
    /// The here-documents that begin behind this line.
    documents: Vec<HereDocument>,
    /// Whether this is within `((…))`, where `<<` is a shift.
    is_arithmetic: bool,
}

/// The text that a command reads, from the next line to the line that is `end`.
struct HereDocument {
    end: String,
    /// Tabs before the end do not count, as `<<-` says.
    is_indented: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let character = self.characters.next();
        self.line += usize::from(character == Some('\n'));
        character
    }

    /// Passes over white space, comments and continuation lines, then reads one word or the end of a command.
    fn next_token(&mut self) -> Result<Token, SyntaxFault> {
        loop {
            match self.characters.peek().copied() {
                None => return Ok(Token::End),
                Some(' ' | '\t' | '\r' | '>') => drop(self.next()),
                Some('<') => self.redirection()?,
                Some('#') => {
                    while self.characters.peek().is_some_and(|next| *next != '\n') {
                        self.next();
                    }
                }
                Some(end @ ('\n' | ';' | '&' | '|' | '(' | ')')) => {
                    self.next();
                    match end {
                        '\n' => self.pass_documents(),
                        '(' if self.characters.peek() == Some(&'(') => self.is_arithmetic = true,
                        ')' => self.is_arithmetic = false,
                        _ => {}
                    }
                    return Ok(Token::CommandEnd);
                }
                Some(_) => {
                    let word = self.word()?;
                    // A continuation line between two words leaves an empty one.
                    if !word.text.is_empty() || word.is_quoted || word.is_replaced {
                        return Ok(Token::Word(word));
                    }
                }
            }
        }
    }

    /// Notes which here-document `<<END` or `<<-END` begins; `<<<` gives one word and `<` a file.
    fn redirection(&mut self) -> Result<(), SyntaxFault> {
        self.next();
        if self.is_arithmetic || !self.takes('<') || self.takes('<') {
            return Ok(());
        }
        let is_indented = self.takes('-');
        while self.takes(' ') || self.takes('\t') {}
        let end = self.word()?;
        if !end.text.is_empty() || end.is_quoted {
            self.documents.push(HereDocument { end: end.text, is_indented });
        }
        Ok(())
    }

    /// Passes over the here-documents that begin with this line. One without an end goes to the end of the file.
    fn pass_documents(&mut self) {
        for HereDocument { end, is_indented } in std::mem::take(&mut self.documents) {
            while self.characters.peek().is_some() {
                let mut line = String::new();
                while let Some(character) = self.next().filter(|character| *character != '\n') {
                    line.push(character);
                }
                let line = line.trim_end_matches('\r');
                if end == if is_indented { line.trim_start_matches('\t') } else { line } {
                    break;
                }
            }
        }
    }

    /// Takes the next character if it is this one.
    fn takes(&mut self, wanted: char) -> bool {
        self.characters.next_if_eq(&wanted).is_some()
    }

    fn word(&mut self) -> Result<Word, SyntaxFault> {
        let mut word = Word { line: self.line, ..Word::default() };
        while let Some(next) = self.characters.peek().copied() {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\'' => self.single_quoted(&mut word)?,
                '"' => self.double_quoted(&mut word)?,
                '\\' => {
                    self.next();
                    // A backslash before the end of a line takes that end away.
                    self.next().filter(|escaped| *escaped != '\n').into_iter().for_each(|it| word.push_quoted(it));
                }
                '$' | '`' => {
                    word.is_replaced = true;
                    self.next();
                }
                _ => self.next().into_iter().for_each(|plain| word.push_plain(plain)),
            }
        }
        Ok(word)
    }

    fn single_quoted(&mut self, word: &mut Word) -> Result<(), SyntaxFault> {
        let opened = self.line;
        self.next();
        word.is_quoted = true;
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(character) => word.push_quoted(character),
                None => return Err(unclosed(opened)),
            }
        }
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), SyntaxFault> {
        let opened = self.line;
        self.next();
        word.is_quoted = true;
        loop {
            match self.next().ok_or_else(|| unclosed(opened))? {
                '"' => return Ok(()),
                '$' | '`' => word.is_replaced = true,
                '\\' => match self.next().ok_or_else(|| unclosed(opened))? {
                    '\n' => {}
                    escaped @ ('$' | '`' | '"' | '\\') => word.push_quoted(escaped),
                    other => {
                        word.push_quoted('\\');
                        word.push_quoted(other);
                    }
                },
                character => word.push_quoted(character),
            }
        }
    }
}

fn unclosed(line: usize) -> SyntaxFault {
    SyntaxFault { line, problem: "a quote is opened here and never closed".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[(usize, &str, Option<&str>)]) {
        let found = parse(text).unwrap();
        let found: Vec<_> = found.iter().map(|a| (a.line, &*a.name, a.value.as_deref())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn a_config_of_the_original_is_read() {
        let text = "#!/bin/sh\n# The license\nexport CT_LICENSEE=\"Example \\\"Corp\\\"\"\n\
                    export CT_MAXCONNECTIONS=250 CT_EXPIRATION='2027/12/31' # until then\nCT_LOCATOR=none; export CT_LOCATOR\n";
        check(
            text,
            &[
                (3, "CT_LICENSEE", Some("Example \"Corp\"")),
                (4, "CT_MAXCONNECTIONS", Some("250")),
                (4, "CT_EXPIRATION", Some("2027/12/31")),
                (5, "CT_LOCATOR", Some("none")),
            ],
        );
    }

    #[test]
    fn quotes_join_and_lines_continue() {
        check("export A='it'\\''s'\" me\"#1", &[(1, "A", Some("it's me#1"))]);
        check("A=\"x\\\ny\\z\" \\\n B=c\\ d", &[(1, "A", Some("xy\\z")), (3, "B", Some("c d"))]);
        check("A=\r\nB='a\nb'\nC=1", &[(1, "A", Some("")), (2, "B", Some("a\nb")), (4, "C", Some("1"))]);
    }

    #[test]
    fn what_a_shell_would_replace_is_not_guessed() {
        for text in ["A=$HOME", "A=\"${B}\"", "A=`id`", "A=\"`id`\"", "A=x$((1+1))", "A=$'x'"] {
            assert_eq!(parse(text).unwrap()[0].value, None, "{text}");
        }
        check("A='$HOME' B=\\$C", &[(1, "A", Some("$HOME")), (1, "B", Some("$C"))]);
    }

    #[test]
    fn only_assignments_are_taken() {
        check("A=1 env; echo B=2; 'C'=3; C\\D=4; 5E=6; =7; export -n; if [ a = b ]; then F=8; fi", &[]);
        check("if true\nthen\nexport F=8\nfi", &[(3, "F", Some("8"))]);
    }

    #[test]
    fn whatever_declares_a_variable_assigns_it() {
        check("readonly A=1 B='2'", &[(1, "A", Some("1")), (1, "B", Some("2"))]);
        check("declare -x A=1\ntypeset -x B=2", &[(1, "A", Some("1")), (2, "B", Some("2"))]);
    }

    #[test]
    fn a_line_of_a_here_document_is_no_assignment() {
        check("cat <<EOF\nA=1\n EOF\nEOF\nB=2", &[(5, "B", Some("2"))]);
        check("cat <<-'THE END' >/dev/null\nA=1\n\t\tTHE END\nB=2", &[(4, "B", Some("2"))]);
        check("cat << \"X\" <<Y; C=3\r\nA=1\r\nX\r\nA=2\r\nY\r\nB=2\r\n", &[(1, "C", Some("3")), (6, "B", Some("2"))]);
        check("cat <<EOF\nA=it's\n", &[]);
        check("cat <<<EOF\nA=1", &[(2, "A", Some("1"))]);
        check("cat <EOF\nA=1", &[(2, "A", Some("1"))]);
        check("A=$((1<<B))\nC=1", &[(1, "A", None), (2, "C", Some("1"))]);
    }

    #[test]
    fn a_config_written_by_hand_on_windows_is_read() {
        let text = "# CodeTogether\r\n\r\nexport CT_LICENSEE='Müller & Co' # ours\r\nexport CT_LOCATOR=\"none\"\r\n  CT_MAXCONNECTIONS=25\r\n";
        check(
            text,
            &[
                (3, "CT_LICENSEE", Some("Müller & Co")),
                (4, "CT_LOCATOR", Some("none")),
                (5, "CT_MAXCONNECTIONS", Some("25")),
            ],
        );
    }

    #[test]
    fn an_open_quote_is_refused_with_its_line() {
        for text in ["\nA='b\n\n", "\nA=\"b\\\"\n", "\nA=\"\\"] {
            assert_eq!(parse(text).unwrap_err().line, 2, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(value in "(\\PC|[\n\r\t\\\\='\"#$` ])*") {
            check(&format!("export NAME={}\n", quote(&value)), &[(1, "NAME", Some(&value))]);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|[\n\r\t\\\\='\"#$`;&|()<> a-e])*") {
            let lines = text.split('\n').count();
            match parse(&text) {
                Ok(found) => prop_assert!(found.iter().all(|a| (1..=lines).contains(&a.line) && is_name(&a.name))),
                Err(fault) => prop_assert!((1..=lines).contains(&fault.line)),
            }
        }
    }
}
