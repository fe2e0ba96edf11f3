//! That the node is suspended, remembered beyond its process: who suspends a node does not mean only until it crashes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file that is there while the node is suspended.
#[derive(Debug)]
pub(crate) struct Suspension(Option<PathBuf>);

impl Suspension {
    /// `None` remembers nothing.
    pub(crate) fn at(file: Option<PathBuf>) -> Self {
        Self(file)
    }

    /// Whether the node is to begin suspended.
    pub(crate) fn is_remembered(&self) -> bool {
        self.0.as_ref().is_some_and(|file| file.exists())
    }

    /// Remembers it, or forgets it. An order that cannot be remembered is in force all the same.
    pub(crate) async fn remember(&self, is_suspended: bool) {
        let Some(file) = self.0.clone() else { return };
        let path = file.clone();
        let write = move || if is_suspended { create(&file) } else { remove(&file) };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            let file = path.display();
            tracing::warn!(%error, %file, is_suspended, "the next start of the node will not know whether it is suspended");
        }
    }
}

fn create(file: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(file.parent().unwrap_or(file))?;
    std::fs::write(file, "")
}

fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
