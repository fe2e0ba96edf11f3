//! A log file that several processes append to, and that any of them may set aside.
//!
//! Every line is one `write` to a descriptor opened for appending, so that lines of several processes do not mix. A
//! file that has grown too long or too old is renamed to `name.1`, an older `name.1` to `name.2`, and so on. Whoever
//! finds it due takes the file's lock and renames; everybody else finds another file under the name, at most
//! [`LOOK`] later, and goes on there. So it is with a file that somebody else has moved, logrotate say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How often a writer looks whether its file is still the one of that name.
const LOOK: Duration = Duration::from_secs(1);

/// How much of a file is looked at for a line that was just written: some dozens of lines.
const END_BYTES: u64 = 8 * 1024;

/// When a log file is set aside, and how many of these are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file of at least this length is set aside.
    pub bytes_max: u64,
    /// A file that was begun this long ago is set aside.
    pub age_max: Duration,
    /// How many set-aside files are kept beside the current one.
    pub kept: u32,
}

/// A log file that is open for appending.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    looked: Instant,
}

impl LogFile {
    /// Opens the file, creating it and its folder where they are missing.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = open_for_append(path)?;
        Ok(Self { path: path.to_owned(), rotation, file, looked: Instant::now() })
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            self.look()?;
        }
        self.file.write_all(lines)
    }

    /// Appends `line` unless `has` finds in the end of the file that somebody was faster. Of several processes that do so
    /// at once, one writes.
    pub(crate) fn append_unless(&mut self, has: impl FnOnce(&str) -> bool, line: &[u8]) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            self.look()?;
        }
        self.file.lock()?;
        let written = self.end().and_then(|end| if has(&end) { Ok(()) } else { self.file.write_all(line) });
        self.file.unlock()?;
        written
    }

    /// The last lines of the file; the first of them may be a part of one.
    fn end(&self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES)))?;
        let mut end = Vec::new();
        file.take(END_BYTES).read_to_end(&mut end)?;
        Ok(String::from_utf8_lossy(&end).into_owned())
    }

    /// Goes on in the file of this name, whatever became of the one that is open.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = open_for_append(&self.path)?;
        self.looked = Instant::now();
        Ok(())
    }

    /// Follows a file that was moved, and sets it aside when that is due.
    fn look(&mut self) -> io::Result<()> {
        self.looked = Instant::now();
        if self.is_due()? {
            // The lock decides who renames. It goes with the descriptor, which the reopening closes.
            self.file.lock()?;
            if self.is_current() {
                set_aside(&self.path, self.rotation.kept)?;
            }
        }
        if self.is_current() { Ok(()) } else { self.reopen() }
    }

    fn is_current(&self) -> bool {
        let (Ok(open), Ok(named)) = (self.file.metadata(), fs::metadata(&self.path)) else { return false };
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    }

    fn is_due(&self) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        if metadata.len() == 0 {
            return Ok(false);
        }
        // Where the file system tells no birth, age has no say.
        let age = metadata.created().ok().and_then(|begun| SystemTime::now().duration_since(begun).ok());
        Ok(metadata.len() >= self.rotation.bytes_max || age.is_some_and(|age| age >= self.rotation.age_max))
    }
}

fn open_for_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Renames `path` to `path.1`, what had that name to `path.2`, and so on; what would be beyond `kept` is removed.
fn set_aside(path: &Path, kept: u32) -> io::Result<()> {
    let numbered = |number: u32| path.with_added_extension(number.to_string());
    if kept == 0 {
        return fs::remove_file(path);
    }
    for number in (1..kept).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn open(path: &Path, rotation: Rotation) -> LogFile {
        LogFile::open(path, rotation).unwrap()
    }

    /// Appends as if the last look had been a while ago.
    fn append_later(file: &mut LogFile, line: &str) {
        file.looked -= LOOK;
        file.append(line.as_bytes()).unwrap();
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_long_file_is_set_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/server.log");
        let mut file = open(&path, Rotation { bytes_max: 4, age_max: HOUR, kept: 2 });
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            append_later(&mut file, line);
        }
        let all: Vec<_> = ["", ".1", ".2", ".3"].map(|end| text(Path::new(&format!("{}{end}", path.display())))).into();
        assert_eq!(all, ["four\n", "three\n", "two\n", ""]);
    }

    #[test]
    fn an_old_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let mut file = open(&path, Rotation { bytes_max: 1 << 20, age_max: Duration::ZERO, kept: 1 });
        append_later(&mut file, "one\n");
        append_later(&mut file, "two\n");
        assert_eq!(text(&path), "two\n");
        assert_eq!(text(&path.with_added_extension("1")), "one\n");
    }

    #[test]
    fn writers_of_one_file_rotate_it_once_and_go_on_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let rotation = Rotation { bytes_max: 4, age_max: HOUR, kept: 9 };
        let (mut one, mut other) = (open(&path, rotation), open(&path, rotation));
        one.append(b"one\n").unwrap();
        append_later(&mut other, "two\n");
        append_later(&mut one, "three\n");
        assert_eq!(text(&path.with_added_extension("1")), "one\n");
        assert_eq!(text(&path), "two\nthree\n");
    }

    #[test]
    fn a_file_that_somebody_moved_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let mut file = open(&path, Rotation { bytes_max: 1 << 20, age_max: HOUR, kept: 1 });
        append_later(&mut file, "one\n");
        fs::rename(&path, folder.path().join("moved")).unwrap();
        append_later(&mut file, "two\n");
        assert_eq!(text(&path), "two\n");
    }
}
