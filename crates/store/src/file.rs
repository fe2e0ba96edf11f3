//! Whether the file of a SQLite store is still the one at its path.
//!
//! A process goes on with an open file that was removed or replaced as if nothing had happened, and shares it with nobody who
//! opens the path later: two nodes would own one session. So each use of the store looks at the path first.
//!
//! ```text
//!            the path has no file               the path has another file
//! Same ──────────────────────────▶ Gone ──┬─────────────────────────────────▶ Settling ─▶ Same, with that file
//!  ▲                                │     │                                   for SETTLES
//!  └──── the file is back ──────────┘     └─ (from Same as well)
//! ```
//!
//! While it is gone the store counts as away. When there is another, every lease of this process is over, since that file may
//! say anything of it. Nothing is begun with it before all others that had the former file open have noticed as well.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a file that replaced another is left alone: every node looks at the path with each heartbeat.
const SETTLES: Duration = Duration::from_secs(5);

/// The file of a store.
pub(crate) struct StoreFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// The file that is in use, once there is one.
    used: Option<Identity>,
    /// Since when another is to take its place.
    replaced: Option<(Identity, Instant)>,
    is_gone: bool,
}

/// What tells one file from another at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// What is to be done before the store is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing.
    Same,
    /// The path has no file: nothing can be done.
    Gone,
    /// It has another, as was found just then: connections to the former one are to be given up, and with them every lease.
    Replaced,
    /// It has another for which it is too early.
    Settling,
    /// It has another that is to be used: it may lack tables. [`StoreFile::use_it`] is due.
    Settled,
}

impl StoreFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::new(State { used: None, replaced: None, is_gone: false }) }
    }

    /// The file at the path is the store from here on.
    pub(crate) fn use_it(&self) {
        let mut state = self.state.lock();
        *state = State { used: self.identity(), replaced: None, is_gone: false };
    }

    /// Looks at the path.
    pub(crate) fn look(&self, now: Instant) -> Seen {
        let mut state = self.state.lock();
        // Before the store was opened, and after it was opened without a file to be seen, anything is right.
        let Some(used) = state.used else {
            return Seen::Same;
        };
        let found = self.identity();
        state.is_gone = found.is_none();
        match (found, state.replaced) {
            (None, _) => Seen::Gone,
            (Some(found), None) if found == used => Seen::Same,
            (Some(found), Some((other, since))) if found == other => {
                if now.saturating_duration_since(since) >= SETTLES { Seen::Settled } else { Seen::Settling }
            }
            // Also the former one, when it comes back after another: its leases are over all the same.
            (Some(found), _) => {
                state.replaced = Some((found, now));
                Seen::Replaced
            }
        }
    }

    /// What an operator has to know of it.
    pub(crate) fn trouble(&self) -> Option<String> {
        let (state, path) = (self.state.lock(), self.path.display());
        match (state.is_gone, state.replaced.is_some()) {
            (true, _) => Some(format!(
                "the file {path} of the store is gone: sessions go on and none begins. Put that file back; if it is lost, \
                 `ctedge restart` begins with an empty one"
            )),
            (false, true) => Some(format!(
                "the file {path} of the store was replaced: every session is let go, and the node begins again with what that \
                 file has. To restore a store, stop the edge first"
            )),
            (false, false) => None,
        }
    }

    fn identity(&self) -> Option<Identity> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some(Identity { device: metadata.dev(), inode: metadata.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_used_again_when_it_is_back_and_another_one_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let (path, kept) = (folder.path().join("a.db"), folder.path().join("kept.db"));
        std::fs::write(&path, "first").unwrap();
        let (file, now) = (StoreFile::new(path.clone()), Instant::now());
        assert_eq!(file.look(now), Seen::Same, "nothing is open yet");
        file.use_it();
        assert_eq!((file.look(now), file.trouble()), (Seen::Same, None));

        std::fs::rename(&path, &kept).unwrap();
        assert_eq!(file.look(now), Seen::Gone);
        assert!(file.trouble().unwrap().contains("is gone"));
        std::fs::rename(&kept, &path).unwrap();
        assert_eq!((file.look(now), file.trouble()), (Seen::Same, None));

        std::fs::rename(&path, &kept).unwrap();
        std::fs::write(&path, "second").unwrap();
        assert_eq!(file.look(now), Seen::Replaced);
        assert_eq!(file.look(now + SETTLES / 2), Seen::Settling);
        assert!(file.trouble().unwrap().contains("was replaced"));
        // The first is back, too late.
        std::fs::rename(&kept, &path).unwrap();
        assert_eq!(file.look(now + SETTLES), Seen::Replaced);
        assert_eq!(file.look(now + 2 * SETTLES), Seen::Settled);
        file.use_it();
        assert_eq!((file.look(now + 2 * SETTLES), file.trouble()), (Seen::Same, None));
    }
}
