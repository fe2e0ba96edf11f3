//! Which log files there are, and from a name to one of them.
//!
//! These are the files of the logs folder itself, and those that the settings name wherever they lie, with those that were
//! set aside beside them. Of two files with one name the one that the settings name counts. Nothing hidden is shown, no
//! folder, and no link that leads out of the folder that it lies in.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ctedge_settings::PortalSettings;

use crate::folder::{self, Found};

/// The most files that are listed: rotation keeps their number far below.
const FILES_MAX: usize = 1_000;

/// How the files end that rotation has packed.
const PACKED: [&str; 4] = ["gz", "xz", "zst", "bz2"];

/// One log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// When something was written into it last.
    pub(super) written: SystemTime,
    /// Whether it is one that is written at this time, and not one that was set aside.
    pub(super) is_current: bool,
}

/// All log files, by name.
pub(super) async fn list(settings: &PortalSettings) -> io::Result<Vec<LogFile>> {
    let mut files = BTreeMap::new();
    for place in places(settings) {
        let mut entries = match tokio::fs::read_dir(place.folder).await {
            Ok(entries) => entries,
            // A log that was never written has no folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        while let Some(entry) = entries.next_entry().await? {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if files.len() >= FILES_MAX || files.contains_key(&name) || !place.has(&name) {
                continue;
            }
            if let Some(path) = in_folder(place.folder, &name).await?
                && let Ok(metadata) = tokio::fs::metadata(&path).await
            {
                let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let is_current = !is_set_aside(&name);
                files.insert(name.clone(), LogFile { name, bytes: metadata.len(), written, is_current });
            }
        }
    }
    Ok(files.into_values().collect())
}

/// The name and the path of the file that `asked`, an undecoded path below `/logs/`, names.
pub(super) async fn find(settings: &PortalSettings, asked: &str) -> io::Result<Option<(String, PathBuf)>> {
    let Some(segments) = folder::segments(asked) else { return Ok(None) };
    let [name] = segments.as_slice() else { return Ok(None) };
    for place in places(settings).filter(|place| place.has(name)) {
        if let Some(path) = in_folder(place.folder, name).await? {
            return Ok(Some((name.clone(), path)));
        }
    }
    Ok(None)
}

/// Whether a file holds no text, because rotation has packed it.
pub(super) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| PACKED.iter().any(|packed| extension == *packed))
}

/// Where log files may be.
struct Place<'s> {
    folder: &'s Path,
    /// The file that is written there; none where every file of the folder is a log.
    log: Option<&'s str>,
}

impl Place<'_> {
    /// Whether a file of this name is a log here.
    fn has(&self, name: &str) -> bool {
        !name.starts_with('.') && self.log.is_none_or(|log| name.strip_prefix(log).is_some_and(is_rotation))
    }
}

fn places(settings: &PortalSettings) -> impl Iterator<Item = Place<'_>> {
    let named = settings
        .log_files
        .iter()
        .filter_map(|path| Some(Place { folder: path.parent()?, log: Some(path.file_name()?.to_str()?) }));
    named.chain([Place { folder: &settings.logs_folder, log: None }])
}

async fn in_folder(folder: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    match folder::find(folder, &[name.to_owned()]).await? {
        Found::File(path) => Ok(Some(path)),
        Found::FolderWithoutSlash | Found::Folder | Found::Nothing => Ok(None),
    }
}

/// Whether `suffix` is what rotation appends to the name of a log, or nothing: `.1` as this program does, `.2.gz` and
/// `-20261124.gz` as logrotate does.
fn is_rotation(suffix: &str) -> bool {
    let suffix = PACKED.iter().find_map(|packed| suffix.strip_suffix(packed)?.strip_suffix('.')).unwrap_or(suffix);
    let Some(number) = suffix.strip_prefix(['.', '-']) else { return suffix.is_empty() };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a file of this name was set aside.
fn is_set_aside(name: &str) -> bool {
    let rotated = |at: usize| at > 0 && is_rotation(&name[at..]);
    name.match_indices(['.', '-']).any(|(at, _)| rotated(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: bool) {
        let place = Place { folder: Path::new("/var/log"), log: Some("server.log") };
        assert_eq!(place.has(name), expected, "{name}");
    }

    #[test]
    fn beside_a_log_only_those_that_rotation_set_aside_are_logs() {
        for name in ["server.log", "server.log.1", "server.log.12.gz", "server.log-20261124", "server.log-20261124.xz"]
        {
            check(name, true);
        }
        for name in
            ["server.log.bak", "server.logs", "server.log.", "server.log.1.old", "syslog", "shadow", "server.log.gz.1"]
        {
            check(name, false);
        }
    }

    #[test]
    fn what_was_set_aside_is_told_from_what_is_written() {
        for name in ["server.log.1", "access.log-20261124.gz", "node-1.log.2"] {
            assert!(is_set_aside(name), "{name}");
        }
        for name in ["server.log", "node-1.log", "balancer.log"] {
            assert!(!is_set_aside(name), "{name}");
        }
    }
}
