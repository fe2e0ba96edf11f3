//! What the server's processes cost: CPU time and memory, from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

/// The kernel reports CPU time in ticks of 10 ms to user space on every architecture that we build for (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Which processes are the server.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerArguments {
    /// A process of the server, whose CPU time and memory are read; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// A process whose descendants are the server, itself included; may be repeated
    #[arg(long = "pid-tree", value_name = "PID")]
    trees: Vec<u32>,
}

/// CPU time that has been used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl CpuTime {
    /// What was used since `earlier`. A process that died in between takes its time with it, hence saturating.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

/// Memory in bytes. The proportional set size counts shared pages once over all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) pss_bytes: u64,
    pub(crate) rss_bytes: u64,
}

impl ServerArguments {
    /// Whether any process was named.
    pub(crate) fn is_known(&self) -> bool {
        !self.pids.is_empty() || !self.trees.is_empty()
    }

    /// The CPU time of all processes so far.
    pub(crate) fn cpu(&self) -> Result<CpuTime> {
        let mut total = CpuTime::default();
        for pid in self.processes()? {
            let time = cpu_of(&pid.to_string())?;
            total.user += time.user;
            total.system += time.system;
        }
        Ok(total)
    }

    /// The memory of all processes at this moment.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut total = Memory::default();
        for pid in self.processes()? {
            let path = format!("/proc/{pid}/smaps_rollup");
            let rollup = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            total.pss_bytes += rollup_bytes(&rollup, "Pss:");
            total.rss_bytes += rollup_bytes(&rollup, "Rss:");
        }
        Ok(total)
    }

    fn processes(&self) -> Result<BTreeSet<u32>> {
        let mut found: BTreeSet<u32> = self.pids.iter().chain(&self.trees).copied().collect();
        let mut unvisited = self.trees.clone();
        while let Some(pid) = unvisited.pop() {
            for child in children_of(pid)? {
                if found.insert(child) {
                    unvisited.push(child);
                }
            }
        }
        Ok(found)
    }
}

/// The CPU time of the load tool itself.
pub(crate) fn own_cpu() -> Result<CpuTime> {
    cpu_of("self")
}

fn cpu_of(pid: &str) -> Result<CpuTime> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}: is the process gone?"))?;
    parse_stat(&stat).with_context(|| format!("{path} has an unknown form"))
}

/// Fields 14 and 15 of proc(5). The command name in field 2 may hold anything, so counting begins behind its parenthesis.
fn parse_stat(stat: &str) -> Option<CpuTime> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(CpuTime { user: TICK * ticks()?, system: TICK * ticks()? })
}

fn rollup_bytes(rollup: &str, name: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or_default() * 1024
}

fn children_of(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    let tasks = format!("/proc/{pid}/task");
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}: is the process gone?"))? {
        let text = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        children.extend(text.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 75 9 9 20 0 1 0 100 1 1";
        let expected = CpuTime { user: Duration::from_millis(2500), system: Duration::from_millis(750) };
        assert_eq!(parse_stat(stat), Some(expected));
    }

    #[test]
    fn a_rollup_is_read_in_bytes() {
        let rollup = "5581-7ffe [rollup]\nRss:                3604 kB\nPss:                1219 kB\nPss_Dirty: 3 kB\n";
        assert_eq!((rollup_bytes(rollup, "Pss:"), rollup_bytes(rollup, "Rss:")), (1219 * 1024, 3604 * 1024));
    }

    #[test]
    fn our_own_process_has_cpu_time_and_memory() {
        let server = ServerArguments { pids: vec![std::process::id()], trees: vec![] };
        assert!(server.memory().unwrap().pss_bytes > 0);
        assert!(server.cpu().is_ok());
    }
}
