//! What the clients folder offers: its files, looked at again when somebody asks.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::sync::Mutex;

use super::about::{About, by_version};
use super::archive::Unfit;
use super::eclipse;
use crate::ide::Ide;

/// How long a look at the folder holds. Pages that many people open at once cost one look.
const HOLDS: Duration = Duration::from_secs(1);

/// How deep the folder is looked at: update sites of several releases lie in folders of their own.
const DEPTH_MAX: usize = 6;

/// One client, or one file that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// The editor that it is for.
    pub ide: Ide,
    /// Where it is below the clients folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What it says of itself.
    #[serde(flatten)]
    pub about: About,
}

/// What was there at one look.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The clients: by editor, then by name, the newest version first.
    pub artifacts: Vec<Artifact>,
    /// Files that look like clients by their place and name, and are none.
    pub unfit: Vec<(String, Unfit)>,
    /// Bytes of all files for Eclipse.
    pub eclipse_bytes: u64,
    /// Every file, and which artifact it is.
    pub(super) files: HashMap<String, Option<usize>>,
    /// What is known of files, for the next look.
    pub(super) known: HashMap<String, Known>,
}

/// What a file said of itself when it had this state.
pub(super) type Known = (Stamp, Result<About, Unfit>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

/// The clients folder.
pub(crate) struct Shelf {
    folder: PathBuf,
    files_max: usize,
    last: Mutex<Option<(Instant, Arc<Catalog>)>>,
}

impl Shelf {
    pub(crate) fn new(folder: PathBuf, files_max: usize) -> Arc<Self> {
        Arc::new(Self { folder, files_max, last: Mutex::default() })
    }

    /// What is there.
    pub(super) async fn catalog(&self) -> Arc<Catalog> {
        self.look(|_| true).await
    }

    /// The client that is the file at `path` below the folder, if it is one.
    pub(super) async fn artifact(&self, path: &str) -> Option<Artifact> {
        // A file that a look did not find came later than that, or the folder holds too many.
        let is_new = |catalog: &Catalog| !catalog.files.contains_key(path) && catalog.files.len() < self.files_max;
        let catalog = self.look(|catalog| !is_new(catalog)).await;
        let index = catalog.files.get(path).copied().flatten()?;
        catalog.artifacts.get(index).cloned()
    }

    async fn look(&self, serves: impl Fn(&Catalog) -> bool) -> Arc<Catalog> {
        let mut last = self.last.lock().await;
        if let Some((at, catalog)) = &*last
            && at.elapsed() < HOLDS
            && serves(catalog)
        {
            return Arc::clone(catalog);
        }
        let known = last.take().map(|(_, catalog)| catalog);
        let (folder, files_max) = (self.folder.clone(), self.files_max);
        let looking = tokio::task::spawn_blocking(move || {
            let known = known.as_ref().map(|catalog| &catalog.known);
            Arc::new(Catalog::of(&folder, files_max, known.unwrap_or(&HashMap::new())))
        });
        // A file that makes a parser panic must not make the page fail for all others.
        let catalog = looking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the clients folder could not be looked at");
            Arc::default()
        });
        *last = Some((Instant::now(), Arc::clone(&catalog)));
        catalog
    }
}

impl Catalog {
    /// Looks at `folder`, at `files_max` files at most.
    #[must_use]
    pub fn read(folder: &Path, files_max: usize) -> Self {
        Self::of(folder, files_max, &HashMap::new())
    }

    /// Of the editor `ide` alone.
    pub fn of_ide(&self, ide: Ide) -> impl Iterator<Item = &Artifact> {
        self.artifacts.iter().filter(move |artifact| artifact.ide == ide)
    }

    /// Whether there is a file `path` below the folder.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    fn of(folder: &Path, files_max: usize, known: &HashMap<String, Known>) -> Self {
        let mut catalog = Self::default();
        let Ok(root) = folder.canonicalize() else { return catalog };
        for ide in Ide::ALL {
            let mut files = Vec::new();
            let left = files_max.saturating_sub(catalog.files.len());
            if let Err(error) = walk(&root, &root.join(ide.as_str()), ide.as_str(), left, 0, &mut files) {
                tracing::warn!(%error, folder = %folder.display(), "a part of the clients folder cannot be read");
            }
            if files.len() >= left {
                tracing::warn!(folder = %folder.display(), files_max, "the clients folder holds more files than it may");
            }
            catalog.add(ide, &root, files, known);
        }
        let newest_first = |one: &Artifact, other: &Artifact| {
            let name = (one.ide, &one.about.name, &one.about.id).cmp(&(other.ide, &other.about.name, &other.about.id));
            name.then_with(|| by_version(&other.about.version, &one.about.version))
                .then_with(|| one.path.cmp(&other.path))
        };
        catalog.artifacts.sort_by(newest_first);
        for (index, artifact) in catalog.artifacts.iter().enumerate() {
            catalog.files.insert(artifact.path.clone(), Some(index));
        }
        catalog
    }

    fn add(&mut self, ide: Ide, root: &Path, files: Vec<(String, Stamp)>, known: &HashMap<String, Known>) {
        let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        let are_clients = match ide {
            Ide::Eclipse => eclipse::stand_for_client(&paths),
            Ide::IntelliJ => paths.iter().map(|path| is_in_place(path, &[".zip", ".jar"])).collect(),
            Ide::VsCode => paths.iter().map(|path| is_in_place(path, &[".vsix"])).collect(),
        };
        for ((path, stamp), is_client) in files.into_iter().zip(are_clients) {
            if ide == Ide::Eclipse {
                self.eclipse_bytes += stamp.bytes;
            }
            self.files.insert(path.clone(), None);
            if !is_client {
                continue;
            }
            let about = match known.get(&path) {
                Some((of, about)) if *of == stamp => about.clone(),
                _ => {
                    let about = About::read(ide, &root.join(&path));
                    if let Err(unfit) = &about {
                        tracing::warn!(file = path, reason = %unfit, "a file in the clients folder is no client");
                    }
                    about
                }
            };
            self.known.insert(path.clone(), (stamp.clone(), about.clone()));
            match about {
                Ok(about) => self.artifacts.push(Artifact { ide, path, bytes: stamp.bytes, about }),
                Err(unfit) => self.unfit.push((path, unfit)),
            }
        }
    }
}

/// Plugins and extensions lie directly in the folder of their editor.
fn is_in_place(path: &str, endings: &[&str]) -> bool {
    path.matches('/').count() == 1 && endings.iter().any(|ending| path.to_ascii_lowercase().ends_with(ending))
}

/// Collects the files below `folder`, whose path below the root is `path`, in order. The rules are those by which they
/// are served: nothing hidden, and no link that leads out.
fn walk(
    root: &Path,
    folder: &Path,
    path: &str,
    files_max: usize,
    depth: usize,
    files: &mut Vec<(String, Stamp)>,
) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || files.len() >= files_max {
            continue;
        }
        let Some(metadata) = seen(root, &entry) else { continue };
        let path = format!("{path}/{name}");
        if metadata.is_file() {
            files.push((path, Stamp { bytes: metadata.len(), modified: metadata.modified().ok() }));
        } else if metadata.is_dir() && depth < DEPTH_MAX {
            walk(root, &entry.path(), &path, files_max, depth + 1, files)?;
        }
    }
    Ok(())
}

/// What an entry is, or what it leads to.
fn seen(root: &Path, entry: &fs::DirEntry) -> Option<Metadata> {
    if !entry.file_type().ok()?.is_symlink() {
        return entry.metadata().ok();
    }
    let target = entry.path().canonicalize().ok()?;
    let below = target.strip_prefix(root).ok()?;
    let is_hidden = below.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
    if is_hidden { None } else { fs::metadata(&target).ok() }
}
