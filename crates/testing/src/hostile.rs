//! Bytes as a stranger may send them: the seeds of the fuzz targets, damaged in every way, and noise.
//!
//! A fuzz target and the test of its parser hold the same function against bytes. The fuzzer runs where somebody waits
//! for it; the test runs always, on every file of `fuzz/seeds`, which has the inputs that once broke something as well.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Inputs made of the seeds in one run. A parser reads them in less than a second, as a test may take.
const CASES: u32 = 2_000;

/// Holds `check` against every seed of the fuzz target `target`, then against what can be made of them. `check` panics
/// where something is wrong.
pub fn check(target: &str, check: impl Fn(&[u8])) {
    let seeds = seeds(target);
    for (file, bytes) in &seeds {
        println!("{}", file.display());
        check(bytes);
    }
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, bytes)| bytes).collect();
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strange(seeds), |Strange(bytes)| {
        check(&bytes);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("keep this input as a file in fuzz/seeds/{target}: {failure}");
    }
}

/// The seeds of a target with their files, in the order of their names.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", folder.display());
    let read = |file: PathBuf| {
        let bytes = fs::read(&file).expect("a readable seed");
        (file, bytes)
    };
    files.into_iter().map(read).collect()
}

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"))
}

/// Shown as text with escapes, so that a failure can be read and kept.
struct Strange(Vec<u8>);

impl std::fmt::Debug for Strange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One change of an input.
#[derive(Debug, Clone)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Some of the input once more.
    Repeat(Index, usize),
    /// The rest is that of another seed.
    Splice(Index, Index),
    Cut(Index),
}

fn strange(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Strange> {
    let made = (any::<Index>(), vec(damage(), 0..5)).prop_map(move |(seed, damages)| {
        let mut bytes = seeds[seed.index(seeds.len())].clone();
        for damage in damages {
            damage.apply(&mut bytes, &seeds);
        }
        bytes
    });
    prop_oneof![5 => made, 1 => vec(any::<u8>(), 0..300)].prop_map(Strange)
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        2 => (at(), vec(any::<u8>(), 1..10)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (at(), 1..40usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (at(), 1..40usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        1 => (at(), at()).prop_map(|(at, seed)| Damage::Splice(at, seed)),
        1 => at().prop_map(Damage::Cut),
    ]
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: Index| at.index(bytes.len() + 1);
        match self {
            Self::Replace(at, byte) => {
                let at = place(at);
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            Self::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more);
            }
            Self::Remove(at, length) => {
                let at = place(at);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Self::Repeat(at, length) => {
                let at = place(at);
                let again = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            Self::Splice(at, seed) => {
                let at = place(at);
                let other = &seeds[seed.index(seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(other.get(at..).unwrap_or_default());
            }
            Self::Cut(at) => bytes.truncate(place(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    /// All sources of the crates in one text.
    fn sources(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_fuzz_target_has_seeds_and_a_test_that_replays_them() {
        let targets = names("fuzz_targets");
        assert_eq!(targets, names("seeds"));
        let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
        let mut tests = String::new();
        sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), &mut tests);
        for target in targets {
            assert!(manifest.contains(&format!("name = \"{target}\"\n")), "fuzz/Cargo.toml does not build {target}");
            assert!(tests.contains(&format!("hostile::check(\"{target}\", ")), "no test replays the seeds of {target}");
        }
    }

    #[test]
    #[should_panic(expected = "keep this input as a file in fuzz/seeds/head")]
    fn what_breaks_a_parser_is_shown() {
        check("head", |bytes| assert!(bytes.len() != 7));
    }
}
