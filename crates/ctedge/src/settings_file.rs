//! Reading the settings file and the environment. Nothing else in this workspace reads either for settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use ctedge_settings::{ClusterSecret, Fault, Override, Settings, overrides_of, parse_with, variables};
use parking_lot::Mutex;

/// How often a file is looked at for a change. Reading a few kilobytes each second costs nothing and, unlike a file
/// watch, also notices a replaced folder, as container platforms do it.
pub(crate) const WATCH: Duration = Duration::from_secs(1);

/// A settings file that can be read again, or no file at all, with options of the command line that count more.
pub(crate) struct SettingsFile {
    path: Option<PathBuf>,
    options: Vec<Override>,
    state: Mutex<State>,
}

/// What was read of the file, to notice a change.
#[derive(Default)]
struct State {
    /// The text of the last load.
    loaded: String,
    /// The text of the last look, or of the last load after it.
    seen: String,
}

impl SettingsFile {
    pub(crate) fn new(path: Option<PathBuf>, options: Vec<Override>) -> Self {
        Self { path, options, state: Mutex::default() }
    }

    /// Reads the file. Options of the command line count more than variables, `overrides` more than both.
    pub(crate) fn load(&self, overrides: Vec<Override>) -> anyhow::Result<Settings> {
        let text = self.read()?;
        check_variables()?;
        *self.state.lock() = State { loaded: text.clone(), seen: text.clone() };
        let all = overrides_of(&variable).into_iter().chain(self.options.clone()).chain(overrides);
        parse_with(&text, all).map_err(|faults| anyhow::anyhow!(self.describe(&faults)))
    }

    /// Whether the file's text is another one than at the last load, and the same as at the last look. Many editors write
    /// a file in place: a look in the middle of that sees a part of it, or nothing, and nothing is a file that says to
    /// take every default. A file that cannot be read has not changed: it may be in the middle of being replaced.
    pub(crate) fn has_changed(&self) -> bool {
        let Ok(text) = self.read() else { return false };
        let mut state = self.state.lock();
        let is_other = text != state.loaded;
        let is_settled = text == state.seen;
        state.seen = text;
        is_other && is_settled
    }

    /// All faults, one a line, below the name of the file.
    pub(crate) fn describe(&self, faults: &[Fault]) -> String {
        let name = self.path.as_ref().map_or("the settings".to_owned(), |path| path.display().to_string());
        let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
        let lines = faults.iter().map(|fault| format!("\n  {fault}")).collect::<String>();
        format!("{name} has {count}:{lines}")
    }

    fn read(&self) -> anyhow::Result<String> {
        match &self.path {
            Some(path) => {
                fs::read_to_string(path).with_context(|| format!("cannot read the settings file {}", path.display()))
            }
            None => Ok(String::new()),
        }
    }
}

/// Reads the cluster secret that `settings` name.
pub(crate) fn read_secret(settings: &Settings) -> anyhow::Result<ClusterSecret> {
    let path = settings.secret_file();
    let advice = "every balancer and node of a cluster reads the same one; make it once with \
                  `(umask 077; head -c 32 /dev/urandom | base64 > FILE)`";
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => bail!("cannot read the cluster secret {} (secret_file): {error}; {advice}", path.display()),
    };
    ClusterSecret::new(&text)
        .with_context(|| format!("{} (secret_file) is no cluster secret; {advice}", path.display()))
}

/// A variable whose bytes are no text must not count as one that is not set.
fn check_variables() -> anyhow::Result<()> {
    match variables().find(|name| matches!(std::env::var(name), Err(std::env::VarError::NotUnicode(_)))) {
        Some(name) => bail!("{name}: its value is not UTF-8; write it in UTF-8"),
        None => Ok(()),
    }
}

/// How many processors this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The settings file that the environment names, for an operator's commands beside an edge that is started with it.
pub(crate) fn config_of_environment() -> Option<PathBuf> {
    std::env::var_os("CTEDGE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The path as a text of the settings.
pub(crate) fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("the path {} is not UTF-8", path.display()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_settings::Value;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctedge.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn an_option_counts_more_than_the_file() {
        let (_folder, path) = file("[up]\nnodes = 2\n");
        let options = vec![Override::new("up.nodes", Value::Integer(5), "--nodes")];
        assert_eq!(SettingsFile::new(Some(path), options).load(vec![]).unwrap().up().nodes, 5);
    }

    #[test]
    fn a_change_of_the_file_is_noticed_once() {
        let (_folder, path) = file("[up]\nnodes = 2\n");
        let settings = SettingsFile::new(Some(path.clone()), vec![]);
        settings.load(vec![]).unwrap();
        assert!(!settings.has_changed());
        fs::write(&path, "[up]\nnodes = 4\n").unwrap();
        assert!(!settings.has_changed(), "a single look cannot tell whether the file is complete");
        assert!(settings.has_changed());
        assert_eq!(settings.load(vec![]).unwrap().up().nodes, 4);
        assert!(!settings.has_changed());
    }

    #[test]
    fn a_file_in_the_middle_of_being_written_is_not_taken_over() {
        let (_folder, path) = file("[up]\nnodes = 2\n");
        let settings = SettingsFile::new(Some(path.clone()), vec![]);
        settings.load(vec![]).unwrap();
        for part in ["", "[up]\n", "[up]\nnodes = 1"] {
            fs::write(&path, part).unwrap();
            assert!(!settings.has_changed(), "{part:?}");
        }
    }

    #[test]
    fn a_wrong_file_is_reported_with_its_name_and_all_its_faults() {
        let (_folder, path) = file("[up]\nnodes = -1\nport = 3\n");
        let error = SettingsFile::new(Some(path.clone()), vec![]).load(vec![]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} has 2 faults:\n  line 2: up.nodes: ", path.display())), "{error}");
    }

    #[test]
    fn a_missing_secret_says_how_to_make_one() {
        let settings = parse_with("data = \"/nowhere\"", []).unwrap();
        let error = read_secret(&settings).unwrap_err().to_string();
        assert!(error.contains("/nowhere/cluster.secret") && error.contains("make it once"), "{error}");
    }
}
