//! The data folder: who holds it, and what is made in it where it is missing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use ctedge_settings::CertificateFiles;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustix::fs::{FlockOperation, flock};

/// Some clients refuse certificates that are valid for more than 825 days, whoever signed them.
const CERTIFICATE_DAYS: i64 = 800;

/// A self-signed certificate is made again at the first start after this, well before it expires.
const CERTIFICATE_RENEWED_AFTER: Duration = Duration::from_secs(400 * 24 * 3600);

/// The folders of a supervisor, held until it is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    root: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates what is missing and takes the folder for this supervisor alone.
    pub(crate) fn take(root: &Path) -> anyhow::Result<Self> {
        let root = std::path::absolute(root).with_context(|| format!("{} is no path", root.display()))?;
        for folder in [root.clone(), root.join("run"), root.join("logs"), root.join("tls")] {
            make_folder(&folder)?;
        }
        let lock = lock(&root)?;
        Ok(Self { root, _lock: lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Pid files, the lock, the effective settings.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Forgets that a node was suspended which is none of this machine's any more. A later one of its name begins anew.
    pub(crate) fn forget_suspension(&self, node: &str) {
        // Nearly always there is none.
        let _ = std::fs::remove_file(self.root.join("suspended").join(node));
    }

    /// What the children say.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The settings that the children read.
    pub(crate) fn effective_file(&self) -> PathBuf {
        self.run().join("ctedge.toml")
    }

    /// The certificate that is made where the settings list none.
    pub(crate) fn self_signed(&self) -> CertificateFiles {
        let folder = self.root.join("tls");
        CertificateFiles { chain: folder.join("self-signed.crt"), key: folder.join("self-signed.key") }
    }
}

/// Makes the folder where it is missing, for the user alone who runs the edge: others have no business in a data folder, which holds
/// the cluster secret, a private key and logs. Call it before anything else makes a file in it.
pub fn make_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the folder {} (data, --data)", folder.display()))
}

/// Says of a data folder that others can look into it.
pub fn warn_of_readers(folder: &Path) {
    if fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0) {
        tracing::warn!(
            folder = %folder.display(),
            "other users of this machine may look into the data folder and its logs: `chmod o-rwx` the folder"
        );
    }
}

/// The kernel lets go of the lock when its holder dies, however it dies.
fn lock(root: &Path) -> anyhow::Result<File> {
    let path = root.join("run").join("supervisor.lock");
    let context = || format!("cannot lock {}", path.display());
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(context)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).with_context(context)?;
            bail!(
                "an edge already runs on the data folder {} (process {}): stop it, or give another folder with --data",
                root.display(),
                holder.trim()
            );
        }
        Err(error) => return Err(error).with_context(context),
    }
    file.set_len(0).with_context(context)?;
    file.seek(SeekFrom::Start(0)).with_context(context)?;
    writeln!(file, "{}", std::process::id()).with_context(context)?;
    Ok(file)
}

/// Makes the cluster secret at `path` where it is missing. Says whether it did.
pub(crate) fn ensure_secret(path: &Path) -> anyhow::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => {
            if metadata.permissions().mode() & 0o077 != 0 {
                tracing::warn!(
                    file = %path.display(),
                    "other users may read the cluster secret: `chmod 600` the file"
                );
            }
            return Ok(false);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read the cluster secret {}", path.display())),
    }
    write_private(path, &format!("{}\n", random_hex::<32>()?))?;
    Ok(true)
}

fn random_hex<const BYTES: usize>() -> anyhow::Result<String> {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).context("the system has no random numbers")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes a self-signed certificate for `names` where it is missing or old. Says whether it did.
pub(crate) fn ensure_certificate(files: &CertificateFiles, names: Vec<String>) -> anyhow::Result<bool> {
    let age = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?.elapsed().ok();
    let is_fresh = age(&files.chain).is_some_and(|age| age < CERTIFICATE_RENEWED_AFTER);
    if is_fresh && files.key.exists() {
        return Ok(false);
    }
    let today = time::OffsetDateTime::from(SystemTime::now());
    let mut params = CertificateParams::new(names).context("a name of this machine fits no certificate")?;
    params.distinguished_name.push(DnType::CommonName, "CodeTogether edge, self-signed");
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    // A day early, for clients whose clock is behind.
    params.not_before = today - time::Duration::days(1);
    params.not_after = today + time::Duration::days(CERTIFICATE_DAYS);
    let key = KeyPair::generate().context("cannot make a private key")?;
    let certificate = params.self_signed(&key).context("cannot make a self-signed certificate")?;
    write_private(&files.key, &key.serialize_pem())?;
    write_private(&files.chain, &certificate.pem())?;
    Ok(true)
}

/// The names that a self-signed certificate of this machine is for, and that of the public URL.
pub(crate) fn certificate_names(public_host: Option<&str>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for name in [Some(host.as_str()), public_host].into_iter().flatten() {
        let is_plain =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
        if is_plain && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Writes a file that only its owner may read, all of it or nothing.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = write_draft(path, text)?;
    fs::rename(&draft, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes what is to become the file `path`, for its owner alone, beside it. Returns where; no other thread and process has that
/// name.
pub(crate) fn write_draft(path: &Path, text: &str) -> anyhow::Result<PathBuf> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let context = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_added_extension(format!("{}-{number}.draft", std::process::id()));
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft).with_context(context)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(context)?;
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_supervisor_of_a_folder_is_refused_and_the_first_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::take(folder.path()).unwrap();
        let error = DataFolder::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataFolder::take(folder.path()).unwrap();
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.secret");
        assert!(ensure_secret(&path).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!ensure_secret(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::take(folder.path()).unwrap();
        let files = data.self_signed();
        assert!(ensure_certificate(&files, certificate_names(Some("edge.example"))).unwrap());
        assert!(fs::read_to_string(&files.chain).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(fs::read_to_string(&files.key).unwrap().contains("PRIVATE KEY"));
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!ensure_certificate(&files, certificate_names(None)).unwrap());
    }

    #[test]
    fn a_certificate_is_for_every_name_that_this_machine_is_called_by() {
        let names = certificate_names(Some("edge.example"));
        for name in ["localhost", "127.0.0.1", "::1", "edge.example"] {
            assert!(names.iter().any(|known| known == name), "{name} is missing in {names:?}");
        }
        assert_eq!(certificate_names(Some("localhost")), certificate_names(None));
    }
}
