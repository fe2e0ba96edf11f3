//! That the node takes no new sessions, remembered beyond its process: who suspends or drains a node does not mean only until it
//! crashes.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use ctedge_wire::NodeStatus;

/// A file with the order, while there is one.
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

    /// Remembers the order to be that. One that cannot be remembered is in force all the same.
    pub(crate) async fn remember(&self, ordered: NodeStatus) {
        self.write(move |file| match ordered {
            NodeStatus::Ready => remove(file),
            NodeStatus::Draining | NodeStatus::Suspended => create(file, ordered),
        })
        .await;
    }

    /// The node ends in order: it has given its sessions away as it was told to, and may come back.
    pub(crate) async fn is_drained(&self) {
        self.write(|file| match std::fs::read(file) {
            Ok(ordered) if ordered == NodeStatus::Draining.as_str().as_bytes() => remove(file),
            _ => Ok(()),
        })
        .await;
    }

    async fn write(&self, write: impl FnOnce(&Path) -> Result<(), Error> + Send + 'static) {
        let Some(file) = self.0.clone() else { return };
        let path = file.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || write(&file)).await {
            let file = path.display();
            tracing::warn!(%error, %file, "the next start of the node will not know whether it is to take sessions");
        }
    }
}

fn create(file: &Path, ordered: NodeStatus) -> Result<(), Error> {
    std::fs::create_dir_all(file.parent().unwrap_or(file))?;
    std::fs::write(file, ordered.as_str())
}

fn remove(file: &Path) -> Result<(), Error> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
