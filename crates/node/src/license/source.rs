//! Finding the license: in variables and settings first, then in the properties file, then in the shell file. The first
//! that has anything of a license counts, right or wrong: a wrong one is told, and not hidden by the next.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ctedge_license::{Fields, FileKind, Found, License, Malformed, file_text};
use ctedge_settings::LicenseSettings;

/// A license has a few hundred bytes; a shell file may have other settings beside it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The license, if there is one.
    pub found: Found,
    /// Where it was found, in words.
    pub source: Option<String>,
}

/// Looks for the license where `settings` say.
#[must_use]
pub fn find(settings: &LicenseSettings) -> Reading {
    if !settings.fields.is_empty() {
        return Reading { found: license_of(&settings.fields), source: Some("variables and settings".to_owned()) };
    }
    let files =
        [(&settings.file, FileKind::Properties, "license.file"), (&settings.config, FileKind::Shell, "license.config")];
    let found = files.into_iter().find_map(|(path, kind, setting)| match look(path, kind, Some(setting)) {
        Found::Nothing => None,
        found => Some(Reading { found, source: Some(path.display().to_string()) }),
    });
    found.unwrap_or(Reading { found: Found::Nothing, source: None })
}

/// What the file at `path` has. A file that is not there has nothing.
#[must_use]
pub fn find_in_file(path: &Path, kind: FileKind) -> Found {
    look(path, kind, None)
}

/// As [`find_in_file`]; the `setting` that names the file is told where it cannot be read.
fn look(path: &Path, kind: FileKind, setting: Option<&str>) -> Found {
    let name = path.display().to_string();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => {
            let setting = setting.map_or(String::new(), |setting| format!(" ({setting})"));
            let problem =
                format!("cannot be read{setting}: {error}; name a file that the user who runs the edge may read");
            return Found::Malformed(Malformed::new(name, problem));
        }
    };
    match Fields::from_file(&name, kind, &text) {
        Ok(fields) if fields.is_empty() => Found::Nothing,
        Ok(fields) => license_of(&fields),
        Err(malformed) => Found::Malformed(malformed),
    }
}

fn license_of(fields: &Fields) -> Found {
    License::read(fields).map_or_else(Found::Malformed, Found::License)
}

/// The text of a file that may have a license.
pub fn read_text(path: &Path) -> io::Result<String> {
    read(path).map(|bytes| file_text(&bytes))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_license::{Field, Locator, PrivateKey, Terms};
    use std::fs;

    fn license(licensee: &str) -> License {
        let terms = Terms::new(licensee, 7, "2027/12/31".parse().unwrap(), Locator::Anywhere).unwrap();
        License::sign(terms, &PrivateKey::from_random(&[1; 32]))
    }

    fn settings(folder: &Path) -> LicenseSettings {
        let (file, config) = (folder.join("licensing.properties"), folder.join("codetogether.config"));
        LicenseSettings { file, config, ..LicenseSettings::default() }
    }

    fn licensee(reading: &Reading) -> &str {
        match &reading.found {
            Found::License(license) => license.terms().licensee(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_source_that_has_a_license_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        assert_eq!(find(&settings), Reading { found: Found::Nothing, source: None });
        fs::write(&settings.config, license("config").write(FileKind::Shell)).unwrap();
        assert_eq!(licensee(&find(&settings)), "config");
        fs::write(&settings.file, license("properties").write(FileKind::Properties)).unwrap();
        assert_eq!(licensee(&find(&settings)), "properties");
        settings.fields = Fields::from_values(|field| Some(license("variables").value(field)));
        assert_eq!(licensee(&find(&settings)), "variables");
    }

    #[test]
    fn a_wrong_license_is_not_hidden_by_a_good_one_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        fs::write(&settings.config, license("config").write(FileKind::Shell)).unwrap();
        fs::write(&settings.file, "licensee=Example\n").unwrap();
        let Found::Malformed(malformed) = find(&settings).found else { panic!("it has one field of five") };
        assert_eq!(malformed.place, format!("{} (maxconnections)", settings.file.display()));
        settings.fields = Fields::from_values(|field| (field == Field::Licensee).then(|| "x".to_owned()));
        let Found::Malformed(malformed) = find(&settings).found else { panic!("it has one field of five") };
        assert_eq!(malformed.place, "CT_MAXCONNECTIONS (license.max_connections)");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        fs::create_dir(&settings.file).unwrap();
        let Found::Malformed(malformed) = find(&settings).found else { panic!("a folder is no file") };
        assert!(malformed.problem.starts_with("cannot be read (license.file): "), "{malformed}");
        fs::remove_dir(&settings.file).unwrap();
        fs::write(&settings.file, vec![b'#'; 300 * 1024]).unwrap();
        assert!(matches!(find(&settings).found, Found::Malformed(_)));
    }
}
