//! What the supervisor tells the store: which nodes are dead.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context;
use ctedge_ownership::{Command, LeaseEnd, LeaseId, NodeId};
use ctedge_settings::StoreSettings;
use ctedge_store::Store;
use ctedge_supervisor::Leases;
use tokio::sync::OnceCell;

/// Ends leases in the store of the settings. It is opened when the first node has died, so that a supervisor over healthy
/// nodes holds no connection.
pub(crate) struct StoredLeases(Option<Arc<Opened>>);

struct Opened {
    settings: StoreSettings,
    store: OnceCell<Store>,
}

impl StoredLeases {
    /// Without a store there is nobody to tell.
    pub(crate) fn new(settings: Option<StoreSettings>) -> Self {
        Self(settings.map(|settings| Arc::new(Opened { settings, store: OnceCell::new() })))
    }
}

impl Leases for StoredLeases {
    fn end(&self, node: &str, incarnation: u64) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        let Some(opened) = self.0.clone() else { return Box::pin(async { Ok(()) }) };
        let node = NodeId::new(node);
        Box::pin(async move {
            let store = opened.store.get_or_try_init(|| Store::open(&opened.settings)).await?;
            // The supervisor has reaped the process: that it is dead needs no proof by silence.
            let command = Command::EndLease { lease: LeaseId { node, incarnation }, beat: None, why: LeaseEnd::Exited };
            store.execute(command).await.map(drop).context("the lease of a dead node was not ended")
        })
    }
}
