//! A log file that several processes append to, and that any of them may set aside.
//!
//! Every line is one `write` to a descriptor opened for appending, so that lines of several processes do not mix. A
//! file that has grown too long or too old is renamed to `name.1`, an older `name.1` to `name.2`, and so on. Whoever
//! finds it due takes the file's lock and renames; everybody else finds another file under the name, at most
//! [`LOOK`] later, and goes on there. So it is with a file that somebody else has moved, logrotate say.
//!
//! Nobody waits for that lock, and a file that cannot be set aside (a mount of its own, a folder of somebody else) is
//! written on as it is: whoever logs may hold what all others need. What went wrong is told by [`LogFile::trouble`].

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::dropped;

/// How often a writer looks whether its file is still the one of that name.
const LOOK: Duration = Duration::from_secs(1);

/// How long a file that could not be set aside is left alone. An operator who repairs the folder sees it within that.
const SET_ASIDE_AGAIN: Duration = Duration::from_secs(60);

/// How often, and after which pauses, somebody who looks at the end of a file before he writes asks for its lock. It is
/// held for one write; who does not get it in that time is better written twice than not at all.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Logs name people, and the server log once a password: for the user who runs the edge, and for whoever is in the group of
/// log readers.
const FILE_MODE: u32 = 0o640;

/// The same for the folder of a log that is missing.
const FOLDER_MODE: u32 = 0o750;

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
    /// When setting the file aside failed for the last time, as long as it fails.
    stuck_since: Option<Instant>,
    is_unwritable: bool,
    trouble: Option<String>,
}

impl LogFile {
    /// Opens the file, creating it and its folder where they are missing. An error names the `setting` that says where it is.
    pub(crate) fn open(setting: &str, path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = open_for_append(path).map_err(|error| {
            let problem = format!(
                "{setting}: cannot write {}: {error}; name a file in a folder where the user who runs the edge may write",
                path.display()
            );
            io::Error::new(error.kind(), problem)
        })?;
        dropped::count(path, 0);
        let (path, looked) = (path.to_owned(), Instant::now());
        Ok(Self { path, rotation, file, looked, stuck_since: None, is_unwritable: false, trouble: None })
    }

    /// Appends whole lines. Lines that cannot be written are counted.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.look_now_and_then();
        let written = self.file.write_all(lines);
        self.note(&written, lines);
        written
    }

    /// Appends `line` unless `has` finds in the end of the file that somebody was faster. Of several processes that do so
    /// at once, one writes.
    pub(crate) fn append_unless(&mut self, has: impl FnOnce(&str) -> bool, line: &[u8]) -> io::Result<()> {
        self.look_now_and_then();
        let locked = lock_soon(&self.file);
        // An end that cannot be read is no reason to leave a line out.
        let is_there = self.end().is_ok_and(|end| has(&end));
        let written = if is_there { Ok(()) } else { (&self.file).write_all(line) };
        drop(locked);
        self.note(&written, line);
        written
    }

    /// What went wrong since it was asked for, to be told by whoever may log. Each thing comes once until it is over.
    pub(crate) fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn note(&mut self, written: &io::Result<()>, lines: &[u8]) {
        let Err(error) = written else {
            self.is_unwritable = false;
            return;
        };
        dropped::count(&self.path, lines.iter().filter(|byte| **byte == b'\n').count() as u64);
        if !std::mem::replace(&mut self.is_unwritable, true) {
            let path = self.path.display();
            self.trouble = Some(format!("{path} cannot be written; its lines are dropped until it can: {error}"));
        }
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

    fn look_now_and_then(&mut self) {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.look();
        }
    }

    /// Follows a file that was moved, and sets it aside when that is due. Neither waits for anybody.
    fn look(&mut self) {
        let is_left_alone = self.stuck_since.is_some_and(|since| since.elapsed() < SET_ASIDE_AGAIN);
        if !is_left_alone && self.is_due() {
            match self.set_aside() {
                Ok(()) => self.stuck_since = None,
                Err(error) => {
                    if self.stuck_since.replace(Instant::now()).is_none() {
                        let path = self.path.display();
                        self.trouble = Some(format!("{path} cannot be set aside, it goes on as it is: {error}"));
                    }
                }
            }
        }
        // Where the name cannot be opened, lines stay in the file that is open: the next look tries again.
        if !self.is_current() {
            let _ = self.reopen();
        }
    }

    /// Renames the file unless somebody else does.
    fn set_aside(&self) -> io::Result<()> {
        // The lock decides who renames.
        let Some(_locked) = try_lock(&self.file)? else { return Ok(()) };
        if self.is_current() { set_aside(&self.path, self.rotation.kept) } else { Ok(()) }
    }

    fn is_current(&self) -> bool {
        let (Ok(open), Ok(named)) = (self.file.metadata(), fs::metadata(&self.path)) else { return false };
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    }

    fn is_due(&self) -> bool {
        let Ok(metadata) = self.file.metadata() else { return false };
        if metadata.len() == 0 {
            return false;
        }
        // Where the file system tells no birth, age has no say.
        let age = metadata.created().ok().and_then(|begun| SystemTime::now().duration_since(begun).ok());
        metadata.len() >= self.rotation.bytes_max || age.is_some_and(|age| age >= self.rotation.age_max)
    }
}

/// The lock of a file, as long as it lives.
struct Locked<'a>(&'a File);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing the descriptor would do it too; there is nothing else to try.
        let _ = self.0.unlock();
    }
}

/// `None` if somebody else has the lock.
fn try_lock(file: &File) -> io::Result<Option<Locked<'_>>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Locked(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The lock if it comes free soon. A file system without locks gives none.
fn lock_soon(file: &File) -> Option<Locked<'_>> {
    for _ in 0..LOCK_TRIES {
        match try_lock(file) {
            Ok(None) => std::thread::sleep(LOCK_PAUSE),
            Ok(locked) => return locked,
            Err(_) => return None,
        }
    }
    None
}

fn open_for_append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// Renames `path` to `path.1`, what had that name to `path.2`, and so on up to the first free number; what would be beyond
/// `kept` is removed. A try that failed leaves `path.1` free, so that the next ones push no older file out.
fn set_aside(path: &Path, kept: u32) -> io::Result<()> {
    let numbered = |number: u32| path.with_added_extension(number.to_string());
    if kept == 0 {
        return fs::remove_file(path);
    }
    let free = (1..kept).find(|number| fs::symlink_metadata(numbered(*number)).is_err()).unwrap_or(kept);
    for number in (1..free).rev() {
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
        LogFile::open("log.server", path, rotation).unwrap()
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
    fn nobody_but_the_user_and_the_group_reads_a_log_or_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/server.log");
        let mut file = open(&path, Rotation { bytes_max: 1, age_max: HOUR, kept: 1 });
        append_later(&mut file, "one\n");
        append_later(&mut file, "two\n");
        for path in [&path, &path.with_added_extension("1"), path.parent().unwrap()] {
            let mode = fs::metadata(path).unwrap().mode();
            assert_eq!(mode & 0o007, 0, "{}: {mode:o}", path.display());
        }
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

    #[test]
    fn a_file_that_cannot_be_set_aside_goes_on_and_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let in_the_way = path.with_added_extension("1");
        fs::create_dir_all(in_the_way.join("not empty")).unwrap();
        let rotation = Rotation { bytes_max: 4, age_max: HOUR, kept: 1 };
        let (done, is_done) = std::sync::mpsc::channel();
        let (mut one, mut other) = (open(&path, rotation), open(&path, rotation));
        let of_writers = path.clone();
        std::thread::spawn(move || {
            for line in ["one\n", "two\n", "three\n"] {
                append_later(&mut one, line);
                append_later(&mut other, line);
            }
            assert_eq!(text(&of_writers), "one\none\ntwo\ntwo\nthree\nthree\n");
            let troubles = [one.trouble(), other.trouble()].map(Option::unwrap_or_default);
            assert!(troubles.iter().all(|said| said.contains("server.log cannot be set aside")), "{troubles:?}");
            append_later(&mut one, "four\n");
            assert_eq!(one.trouble(), None, "it is said once");

            fs::remove_dir_all(&in_the_way).unwrap();
            one.stuck_since = one.stuck_since.map(|since| since - SET_ASIDE_AGAIN);
            append_later(&mut one, "five\n");
            append_later(&mut other, "six\n");
            assert_eq!(text(&of_writers), "five\nsix\n");
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(10)).expect("a writer waits for another one");
    }

    #[test]
    fn a_lock_that_somebody_keeps_stops_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.log");
        let rotation = Rotation { bytes_max: 4, age_max: HOUR, kept: 1 };
        let (keeper, mut file) = (open(&path, rotation), open(&path, rotation));
        keeper.file.lock().unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            append_later(&mut file, "one\n");
            append_later(&mut file, "two\n");
            file.append_unless(|end| end.contains("two"), b"three\n").unwrap();
            file.append_unless(|end| end.contains("five"), b"four\n").unwrap();
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(10)).expect("a writer waits for the lock");
        assert_eq!(text(&path), "one\ntwo\nfour\n");
    }

    #[test]
    fn tries_that_fail_push_no_older_file_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let numbered = |number: u32| path.with_added_extension(number.to_string());
        fs::write(numbered(1), "older").unwrap();
        // There is no file of that name, so that each try fails once it comes to it.
        for _ in 0..5 {
            set_aside(&path, 3).unwrap_err();
        }
        assert_eq!(text(&numbered(2)), "older");
    }

    #[test]
    fn a_folder_that_somebody_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/server.log");
        let mut file = open(&path, Rotation { bytes_max: 1 << 20, age_max: HOUR, kept: 1 });
        for line in ["one\n", "two\n"] {
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
            append_later(&mut file, line);
            assert_eq!(text(&path), line);
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        file.reopen().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_once() {
        let full = Path::new("/dev/full");
        let mut file = open(full, Rotation { bytes_max: 1 << 20, age_max: HOUR, kept: 1 });
        file.append(b"one\ntwo\n").unwrap_err();
        assert!(file.trouble().unwrap().contains("/dev/full cannot be written"));
        file.append_unless(|_| false, b"three\n").unwrap_err();
        assert_eq!((file.trouble(), dropped::lines_dropped()["full"]), (None, 3));
    }
}
