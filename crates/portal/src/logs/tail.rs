//! The last lines of a file, read from its end: how long the file is makes no difference.

use std::io::{self, SeekFrom};
use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// The most lines that may be asked for.
pub(super) const LINES_MAX: usize = 10_000;

/// The most that is read for them. Of longer lines there are fewer.
const BYTES_MAX: u64 = 2 << 20;

/// How much is read at once.
const BLOCK_BYTES: u64 = 64 << 10;

/// The end of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Whole lines; the last one is not ended where its writer has not ended it yet.
    pub(super) text: String,
    /// Whether there is more before them.
    pub(super) more: bool,
}

/// The last `lines` lines of the file at `path`.
pub(super) async fn read(path: &Path, lines: usize) -> io::Result<Tail> {
    read_within(path, lines, BYTES_MAX).await
}

async fn read_within(path: &Path, lines: usize, bytes_max: u64) -> io::Result<Tail> {
    let mut file = File::open(path).await?;
    let length = file.metadata().await?.len();
    let (mut from, mut blocks, mut ends) = (length, Vec::new(), 0);
    // One end more than lines: the first of them begins behind it. The last line may not be ended.
    while from > 0 && ends <= lines + 1 && length - from < bytes_max {
        let size = BLOCK_BYTES.min(from).min(bytes_max - (length - from));
        from -= size;
        file.seek(SeekFrom::Start(from)).await?;
        let mut block = vec![0; size as usize];
        file.read_exact(&mut block).await?;
        ends += block.iter().filter(|byte| **byte == b'\n').count();
        blocks.push(block);
    }
    blocks.reverse();
    let bytes = blocks.concat();
    let begin = begin_of(&bytes, lines, from == 0);
    let text = String::from_utf8_lossy(&bytes[begin..]).into_owned();
    Ok(Tail { text, more: from > 0 || begin > 0 })
}

/// Where the last `lines` lines begin. Unless `bytes` are `all` of the file, what stands before their first line end is the
/// rest of a line that is left out; if there is no line end, that rest is better than nothing.
fn begin_of(bytes: &[u8], lines: usize, all: bool) -> usize {
    let ended = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut ends = ended.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match ends.nth(lines - 1) {
        Some(begin) => begin,
        None if all => 0,
        None => ended.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(text: &str, lines: usize, bytes_max: u64, expected: &str, more: bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let expected = Tail { text: expected.to_owned(), more };
        assert_eq!(read_within(file.path(), lines, bytes_max).await.unwrap(), expected, "{lines} of {text:?}");
    }

    #[tokio::test]
    async fn the_last_lines_are_whole() {
        check("", 3, 100, "", false).await;
        check("a\nb\nc\n", 2, 100, "b\nc\n", true).await;
        check("a\nb\nc\n", 3, 100, "a\nb\nc\n", false).await;
        check("a\nb\nc\n", 9, 100, "a\nb\nc\n", false).await;
        check("a\nb\nc", 1, 100, "c", true).await;
        check("a\n\n\n", 2, 100, "\n\n", true).await;
        // No more is read than is allowed, and no part of a line is shown as one.
        check("first\nsecond\nthird\n", 9, 9, "third\n", true).await;
        check("one line without an end", 1, 3, "end", true).await;
        check("ä\nö\n", 1, 100, "ö\n", true).await;
    }

    #[tokio::test]
    async fn lines_are_found_over_several_blocks() {
        let line = "x".repeat(40_000);
        let text: String = (0..9).map(|number| format!("{number}{line}\n")).collect();
        let expected: String = (4..9).map(|number| format!("{number}{line}\n")).collect();
        check(&text, 5, 1 << 20, &expected, true).await;
        check(&text, 9, 1 << 20, &text, false).await;
    }
}
