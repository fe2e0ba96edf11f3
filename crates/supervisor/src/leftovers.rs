//! What a dead supervisor left behind: children that still run.
//!
//! A child's pid file holds its process id, the time it started and the boot it started in. The kernel gives a process
//! id to somebody else sooner or later, but never together with the same start time; so nothing is ever killed that is
//! not ours. The process is held by a descriptor while it is looked at and signalled, so that it cannot be replaced in
//! between either.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A node that stops in order says goodbye to its peers first. Whoever starts a supervisor anew waits for that, but not
/// for long.
const GOODBYE: Duration = Duration::from_secs(5);

/// How often a process that was told to stop is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Identifies a process for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pid: i32,
    start_ticks: u64,
    boot: String,
}

impl Identity {
    /// The process that has `pid` at this moment.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { pid, start_ticks: start_ticks(&stat)?, boot: boot.trim().to_owned() })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let identity = Self {
            pid: words.next()?.parse().ok()?,
            start_ticks: words.next()?.parse().ok()?,
            boot: words.next()?.to_owned(),
        };
        words.next().is_none().then_some(identity)
    }
}

/// The pid file of one child; removed when the child is gone.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file of the child `name` with process id `pid`.
    pub(crate) fn write(folder: &Path, name: &str, pid: i32) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.pid"));
        // A child that is already gone needs no identity to be cleaned up.
        if let Some(identity) = Identity::of(pid) {
            let text = format!("{} {} {}\n", identity.pid, identity.start_ticks, identity.boot);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self { path })
    }

    /// Gives the file the name that belongs to the child `name`.
    pub(crate) fn rename(&mut self, name: &str) -> anyhow::Result<()> {
        let path = self.path.with_file_name(format!("{name}.pid"));
        if path != self.path {
            fs::rename(&self.path, &path).with_context(|| format!("cannot rename {}", self.path.display()))?;
            self.path = path;
        }
        Ok(())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Stops every child that a dead supervisor left in `folder`, in order and then by force. Returns their names.
pub(crate) fn clean_up(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut stopped = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        if let Some(identity) = Identity::parse(&text)
            && stop(&identity)
        {
            stopped.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(stopped)
}

/// Stops the process if it still runs and is that one. Says whether it was.
fn stop(identity: &Identity) -> bool {
    let Some(pid) = Pid::from_raw(identity.pid) else { return false };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    if is_gone(identity) {
        return false;
    }
    for signal in [Signal::TERM, Signal::KILL] {
        let _ = pidfd_send_signal(&held, signal);
        let deadline = Instant::now() + GOODBYE;
        while Instant::now() < deadline {
            if is_gone(identity) {
                return true;
            }
            std::thread::sleep(LOOK);
        }
    }
    true
}

/// Gone, or dead and only waiting for its parent to notice.
fn is_gone(identity: &Identity) -> bool {
    let is_zombie = fs::read_to_string(format!("/proc/{}/stat", identity.pid))
        .is_ok_and(|stat| after_name(&stat).is_some_and(|rest| rest.starts_with('Z')));
    is_zombie || Identity::of(identity.pid).as_ref() != Some(identity)
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
fn start_ticks(stat: &str) -> Option<u64> {
    after_name(stat)?.split(' ').nth(19)?.parse().ok()
}

/// The fields from the third on. The second is the process's name in parentheses, which may hold anything.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn a_child_that_still_runs_is_stopped_and_its_file_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        std::mem::forget(PidFile::write(folder.path(), "node-1", pid(&child)).unwrap());
        assert_eq!(clean_up(folder.path()).unwrap(), ["node-1"]);
        assert!(!child.wait().unwrap().success());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stranger_with_the_same_process_id_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut stranger = sleeper();
        let identity = Identity::of(pid(&stranger)).unwrap();
        let file = folder.path().join("node-1.pid");
        fs::write(&file, format!("{} {} {}", identity.pid, identity.start_ticks + 1, identity.boot)).unwrap();
        assert_eq!(clean_up(folder.path()).unwrap(), Vec::<String>::new());
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger was killed");
        assert!(!file.exists());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_pid_file_that_makes_no_sense_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.pid"), "-1 what").unwrap();
        assert_eq!(clean_up(folder.path()).unwrap(), Vec::<String>::new());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 0 0 0 0 1 2 3 4 20 0 1 0 4711 0 0";
        assert_eq!(start_ticks(stat), Some(4711));
    }
}
