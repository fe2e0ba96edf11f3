//! What one child says on its standard output and error: a file that it appends to, kept within bounds while it does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log that is longer is set aside. Some days of an edge that has trouble; without any, children say little.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// For the user who runs the edge, and for whoever is in the group of log readers.
const MODE: u32 = 0o640;

/// How much of the end of a log is looked at for its last lines.
const END_BYTES: u64 = 16 * 1024;

/// Opens the log for a child to append to.
pub(crate) fn open(log: &Path) -> io::Result<File> {
    bound(log, BYTES_MAX)?;
    OpenOptions::new().create(true).append(true).mode(MODE).open(log)
}

/// Sets every log of `logs` aside that has grown too long. Blocks.
pub(crate) fn bound_all(logs: &[PathBuf]) {
    for log in logs {
        if let Err(error) = bound(log, BYTES_MAX) {
            tracing::warn!("{} cannot be set aside: {error}", log.display());
        }
    }
}

/// Whether [`bound_all`] would have something to do. Cheap.
pub(crate) fn is_too_long(log: &Path) -> bool {
    fs::metadata(log).is_ok_and(|metadata| metadata.len() > BYTES_MAX)
}

/// Moves what a log of more than `bytes_max` holds to `NAME.log.1`, in the place of what is there; of a much longer one, the end.
///
/// Its writers hold the file open, and no rename takes it from them. So it is copied and emptied; they append, and so go on at
/// its beginning. What they say between the two is lost.
fn bound(log: &Path, bytes_max: u64) -> io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length <= bytes_max {
        return Ok(());
    }
    let copied = copy_end(&mut file, length.saturating_sub(bytes_max), &log.with_added_extension("1"));
    // Also where there is no room for the copy: it may be this log that has taken it.
    file.set_len(0)?;
    copied
}

fn copy_end(log: &mut File, from: u64, to: &Path) -> io::Result<()> {
    let mut copy = OpenOptions::new().create(true).truncate(true).write(true).mode(MODE).open(to)?;
    log.seek(SeekFrom::Start(from))?;
    io::copy(&mut log.take(BYTES_MAX), &mut copy).map(drop)
}

/// The last `count` lines of the log, the older first. Of lines longer than those of a log are, fewer.
pub(crate) fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let end = read_end(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let mut lines: Vec<_> = text.lines().rev().take(count).map(str::to_owned).collect();
    lines.reverse();
    lines
}

fn read_end(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES)))?;
    let mut end = Vec::new();
    file.take(END_BYTES).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_log_that_somebody_holds_open_is_set_aside_and_goes_on_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("node-1.log");
        bound(&log, 8).unwrap();
        let mut child = open(&log).unwrap();
        child.write_all(b"one\n").unwrap();
        bound(&log, 8).unwrap();
        assert_eq!(text(&log), "one\n");
        child.write_all(b"two\nthree\n").unwrap();
        bound(&log, 8).unwrap();
        assert_eq!((text(&log), text(&log.with_added_extension("1"))), (String::new(), "o\nthree\n".into()));
        child.write_all(b"four\n").unwrap();
        assert_eq!(text(&log), "four\n");
    }

    #[test]
    fn a_log_is_emptied_also_where_it_cannot_be_copied() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("node-1.log");
        fs::write(&log, "long enough").unwrap();
        fs::create_dir(log.with_added_extension("1")).unwrap();
        bound(&log, 8).unwrap_err();
        assert_eq!(text(&log), "");
    }

    #[test]
    fn the_last_lines_are_found_without_reading_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("node-1.log");
        assert_eq!(last_lines(&log, 2), [""; 0]);
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(last_lines(&log, 2), ["two", "three"]);
        assert_eq!(last_lines(&log, 9), ["one", "two", "three"]);
        // A hole that nobody could hold in memory.
        let mut file = OpenOptions::new().append(true).open(&log).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all(b"\nlast\n").unwrap();
        assert_eq!(last_lines(&log, 1), ["last"]);
    }
}
