//! The two files of one lease, which take turns.
//!
//! One is written; the other, before it, is emptied when the store has what is in it. Each begins with the number of its
//! turn, so that a reader knows which was before.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ctedge_ownership::{LeaseId, NodeId};

/// Files of a lease.
const PAGES: usize = 2;

/// Bytes of the number that each begins with.
const TURN: usize = size_of::<u64>();

/// The files of a lease that writes.
#[derive(Debug)]
pub(super) struct Pages {
    files: [File; PAGES],
    bytes: [u64; PAGES],
    /// Of the one that is written. Its parity says which that is.
    turn: u64,
}

impl Pages {
    pub(super) fn create(folder: &Path, lease: &LeaseId) -> io::Result<Self> {
        // Names and addresses of people are in there.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let open = |path: &PathBuf| {
            // What is appended after the file was emptied stands at its beginning.
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            file.set_len(0)?;
            Ok::<_, io::Error>(file)
        };
        let [one, other] = paths(folder, lease);
        Ok(Self { files: [open(&one)?, open(&other)?], bytes: [0; PAGES], turn: 0 })
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    /// Appends with one system call.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let page = self.page();
        let number = self.turn.to_le_bytes();
        let text = if self.bytes[page] == 0 { &[&number, record].concat() } else { record };
        (&self.files[page]).write_all(text)?;
        self.bytes[page] += text.len() as u64;
        Ok(())
    }

    /// Empties the file that is not written, and goes on with it.
    pub(super) fn take_turns(&mut self) -> io::Result<()> {
        self.empty_former()?;
        self.turn += 1;
        Ok(())
    }

    pub(super) fn empty_former(&mut self) -> io::Result<()> {
        let former = 1 - self.page();
        if self.bytes[former] > 0 {
            self.files[former].set_len(0)?;
            self.bytes[former] = 0;
        }
        Ok(())
    }

    /// Bytes of the file that is written.
    pub(super) fn written(&self) -> u64 {
        self.bytes[self.page()]
    }

    /// Bytes of the other one.
    pub(super) fn former(&self) -> u64 {
        self.bytes[1 - self.page()]
    }

    fn page(&self) -> usize {
        usize::from(self.turn % 2 == 1)
    }
}

/// What stands in the files of `lease`, the former one first. Of a file that cannot be read, `problem` hears.
pub(super) fn read(folder: &Path, lease: &LeaseId, mut problem: impl FnMut(&Path, io::Error)) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    for path in paths(folder, lease) {
        match fs::read(&path) {
            Ok(bytes) => {
                let page = bytes.split_first_chunk::<TURN>();
                pages.extend(page.map(|(turn, records)| (u64::from_le_bytes(*turn), records.to_vec())));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => problem(&path, error),
        }
    }
    pages.sort_unstable();
    pages.into_iter().map(|(_, records)| records).collect()
}

pub(super) fn remove(folder: &Path, lease: &LeaseId) {
    for path in paths(folder, lease) {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(file = %path.display(), %error, "notes that are done with cannot be removed");
        }
    }
}

/// The leases that have files in the folder.
pub(super) fn leases(folder: &Path) -> Vec<LeaseId> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut leases: Vec<LeaseId> = entries.filter_map(|entry| lease_of(entry.file_name().to_str()?)).collect();
    leases.sort();
    leases.dedup();
    leases
}

fn paths(folder: &Path, lease: &LeaseId) -> [PathBuf; PAGES] {
    [0, 1].map(|page| folder.join(format!("{}-{}.{page}", lease.node, lease.incarnation)))
}

fn lease_of(name: &str) -> Option<LeaseId> {
    let (lease, _) = name.rsplit_once('.')?;
    let (node, incarnation) = lease.rsplit_once('-')?;
    Some(LeaseId::new(NodeId::new(node), incarnation.parse().ok()?))
}
