//! Reading archives that strangers may have packed: nothing is unpacked beyond a bound.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

/// The longest description of a client inside its archive (`package.json`, `plugin.xml`).
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// The longest archive inside an archive.
const INNER_BYTES_MAX: u64 = 256 << 20;

/// Why a file is not a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// It is no archive, or a broken one.
    #[error("it is no sound zip archive: {0}")]
    Archive(String),
    /// It lacks what every client of its kind has.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// What it says of itself cannot be understood.
    #[error("its {0} cannot be understood: {1}")]
    Malformed(&'static str, String),
    /// Something in it is larger than it may be.
    #[error("its {0} is larger than {1} bytes")]
    TooLarge(String, u64),
}

/// An archive that is open for reading.
pub(super) struct Archive<R> {
    pub(super) zip: ZipArchive<R>,
}

impl Archive<BufReader<File>> {
    pub(super) fn open(path: &Path) -> Result<Self, Unfit> {
        let file = File::open(path).map_err(|error| Unfit::Read(error.to_string()))?;
        Self::read(BufReader::new(file))
    }
}

impl<R: Read + Seek> Archive<R> {
    pub(super) fn read(reader: R) -> Result<Self, Unfit> {
        Ok(Self { zip: ZipArchive::new(reader).map_err(unfit)? })
    }

    /// The names in it that are UTF-8.
    pub(super) fn names(&self) -> Vec<String> {
        self.zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect()
    }

    /// The text of the entry `name`, if there is one.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Unfit> {
        let Some(bytes) = self.bytes(name, TEXT_BYTES_MAX)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| Unfit::Malformed(name, "it is not UTF-8".to_owned()))?;
        // Windows tools like to begin a file with a byte order mark, which no parser of ours reads.
        Ok(Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
    }

    /// The archive that is the entry `name`.
    pub(super) fn inner(&mut self, name: &str) -> Result<Archive<Cursor<Vec<u8>>>, Unfit> {
        Archive::read(Cursor::new(self.bytes(name, INNER_BYTES_MAX)?.unwrap_or_default()))
    }

    fn bytes(&mut self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Unfit> {
        let entry = match self.zip.by_name(name) {
            Ok(entry) => entry,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(unfit(error)),
        };
        let mut bytes = Vec::new();
        // What an archive says of its sizes is not to be trusted.
        let read = entry.take(bytes_max + 1).read_to_end(&mut bytes);
        read.map_err(|error| Unfit::Archive(format!("{name}: {error}")))?;
        if bytes.len() as u64 > bytes_max {
            return Err(Unfit::TooLarge(name.to_owned(), bytes_max));
        }
        Ok(Some(bytes))
    }
}

pub(super) fn unfit(error: ZipError) -> Unfit {
    match error {
        ZipError::Io(error) if error.kind() != io::ErrorKind::InvalidData => Unfit::Read(error.to_string()),
        other => Unfit::Archive(other.to_string()),
    }
}
