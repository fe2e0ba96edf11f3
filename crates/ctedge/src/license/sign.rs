//! `ctedge license keygen` and `ctedge license sign`. The private key is written to its file and read from it, and goes
//! nowhere else.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use ctedge_license::{Field, FileKind, License, PrivateKey, Terms};
use serde_json::json;

use super::arguments::{Format, KeygenOptions, SignOptions};

/// Reading and writing for the owner alone.
const PRIVATE: u32 = 0o600;

/// `ctedge license keygen`
pub(super) fn keygen(options: &KeygenOptions) -> anyhow::Result<ExitCode> {
    let path = &options.out;
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("the operating system gives no random bytes")?;
    let key = PrivateKey::from_random(&random);
    let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path);
    let mut file = file.with_context(|| match path.exists() {
        true => format!("{} is there already: a key that was used is never overwritten", path.display()),
        false => format!("cannot make {}", path.display()),
    })?;
    let text =
        format!("# The private key of CodeTogether licenses. Whoever has it can sign any license.\n{}\n", key.expose());
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| {
        // What could not be written whole would stand in the way of the next try.
        let _ = fs::remove_file(path);
        format!("cannot write {}", path.display())
    })?;
    let public_key = key.public_key();
    if options.json {
        println!("{:#}", json!({ "public_key": public_key.to_string(), "private_key_file": path }));
    } else {
        println!("private key  {} (only you may read it; keep it off every server)", path.display());
        println!("public key   {public_key}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `ctedge license sign`
pub(super) fn sign(options: &SignOptions) -> anyhow::Result<ExitCode> {
    let terms = Terms::new(
        &options.licensee,
        options.connections,
        options.expiration.parse().context("--expiration")?,
        options.locator.trim().parse().context("--locator")?,
    );
    let license = License::sign(terms.context("--licensee")?, &read_private_key(&options.key)?);
    let kind = match options.format {
        Format::Properties => FileKind::Properties,
        Format::Shell => FileKind::Shell,
    };
    let text = license.write(kind);
    if let Some(path) = &options.out {
        replace(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if options.json {
        let fields = Field::ALL.map(|field| (field.property().to_owned(), license.value(field).into()));
        println!("{:#}", serde_json::Value::Object(fields.into_iter().collect()));
    } else if let Some(path) = &options.out {
        println!("signed: {}", path.display());
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The private key in the file at `path`, comments aside.
fn read_private_key(path: &Path) -> anyhow::Result<PrivateKey> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the private key {} (--key)", path.display()))?;
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.mode());
    if mode & 0o077 != 0 {
        bail!("others may read the private key {}: let only you, with chmod 600", path.display());
    }
    let key: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    key.parse().with_context(|| path.display().to_string())
}

/// Puts `text` in the place of what is at `path`, whole: an edge may be looking at the file.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    fs::write(&beside, text)?;
    fs::rename(&beside, path).inspect_err(|_| drop(fs::remove_file(&beside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keygen_options(out: &Path) -> KeygenOptions {
        KeygenOptions { out: out.to_owned(), json: false }
    }

    #[test]
    fn a_private_key_is_for_its_owner_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        keygen(&keygen_options(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let key = read_private_key(&path).unwrap().public_key();
        let error = keygen(&keygen_options(&path)).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(read_private_key(&path).unwrap().public_key(), key);
    }

    #[test]
    fn a_private_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        keygen(&keygen_options(&path)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private_key(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_license_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("licensing.properties");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
