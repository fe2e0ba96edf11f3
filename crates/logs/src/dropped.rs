//! Lines that this process could not write, by file.

use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;

/// Has an entry for each file that was opened: those of the settings.
static DROPPED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// How many lines were dropped of each file that was opened, by the file's name.
#[must_use]
pub fn lines_dropped() -> BTreeMap<String, u64> {
    DROPPED.lock().clone()
}

/// So many lines of the file at `path` were dropped.
pub(crate) fn count(path: &Path, lines: u64) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    *DROPPED.lock().entry(name).or_default() += lines;
}
