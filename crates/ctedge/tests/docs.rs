//! The documents for operators, held against the program: what they name exists.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn documents() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let files = docs.chain([root().join("README.md")]);
    files.map(|file| (file.clone(), std::fs::read_to_string(&file).unwrap().replace("\\\n", " "))).collect()
}

fn output(arguments: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_ctedge")).args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Everything that a document shows as code: spans, and the lines of blocks without their prompts.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (number, block) in text.split("```").enumerate() {
        if number % 2 == 1 {
            found.extend(
                block.lines().map(|line| line.trim_start_matches("$ ").trim_start_matches("./target/release/")),
            );
        } else {
            found.extend(block.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The commands of the program that a piece of code names: each as its words.
fn commands(code: &str) -> Option<Vec<&str>> {
    Some(code.strip_prefix("ctedge ")?.split(['|', '>']).next()?.split_whitespace().collect())
}

#[test]
fn every_command_and_option_that_the_documents_name_exists() {
    let mut helps: BTreeMap<Vec<&str>, Option<String>> = BTreeMap::new();
    let documents = documents();
    let mut checked = 0;
    for (file, text) in &documents {
        for words in code(text).into_iter().filter_map(commands) {
            let is_word = |word: &&&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
            let named: Vec<&str> =
                words.iter().take_while(|word| !word.starts_with('-')).take_while(is_word).copied().collect();
            // What follows a command may be a name of a node or a process.
            let depth = (1..=named.len()).rev().find(|depth| {
                let command = named[..*depth].to_vec();
                let ask = || output(&[&command[..], &["--help"]].concat()).filter(|help| usage_is_of(help, &command));
                helps.entry(command.clone()).or_insert_with(ask).is_some()
            });
            let depth =
                depth.unwrap_or_else(|| panic!("{}: `ctedge {}`: no such command", file.display(), words.join(" ")));
            let help = helps[&named[..depth].to_vec()].as_ref().unwrap();
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(*option), "{}: `ctedge {}`: no {option}", file.display(), words.join(" "));
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} commands were found in the documents");
}

fn usage_is_of(help: &str, command: &[&str]) -> bool {
    help.contains(&format!("Usage: ctedge {}", command.join(" ")))
}

#[test]
fn every_setting_that_the_documents_name_exists() {
    let defaults = output(&["default-config"]).unwrap();
    let mut settings = BTreeSet::new();
    let mut sections = BTreeSet::new();
    let mut section = String::new();
    for line in defaults.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
            sections.insert(section.split('.').next().unwrap().to_owned());
        } else if let Some((name, _)) = line.split_once(" = ") {
            settings.insert(if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") });
        }
    }
    let mut checked = 0;
    for (file, text) in documents() {
        for code in code(&text) {
            let is_path =
                code.contains('.') && code.chars().all(|letter| letter.is_ascii_lowercase() || "._".contains(letter));
            let names_setting = is_path && code.split('.').next().is_some_and(|first| sections.contains(first));
            if names_setting && !is_file(code) {
                assert!(settings.contains(code), "{}: no setting `{code}`", file.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} settings were found in the documents");
}

/// A log or data file whose name begins like a section.
fn is_file(name: &str) -> bool {
    [".log", ".db", ".toml", ".properties", ".gz", ".pem", ".secret"].iter().any(|ending| name.ends_with(ending))
}

#[test]
fn every_variable_that_the_documents_name_is_known() {
    let known: BTreeSet<&str> = ctedge_settings::variables().chain(["CTEDGE_ADMIN_TOKEN", "CTEDGE_CONFIG"]).collect();
    for (file, text) in documents() {
        let words =
            text.split(|letter: char| !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'));
        for word in words.filter(|word| word.starts_with("CT_") || word.starts_with("CTEDGE_")) {
            let is_known = if word.ends_with('_') {
                known.iter().any(|name| name.starts_with(word))
            } else {
                known.contains(word)
            };
            assert!(is_known, "{}: no variable {word}", file.display());
        }
    }
}

#[test]
fn every_file_that_the_documents_link_to_exists() {
    for (file, text) in documents() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let target = file.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{}: {link} leads nowhere", file.display());
        }
    }
}
