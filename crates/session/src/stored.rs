//! What is stored of a session while it lives, so that another owner can take it over when its owner dies.
//!
//! Little and rarely: its peers as they come and go, and which requests are in flight. Messages are not stored.

use std::collections::HashSet;

use bytes::Bytes;
use ctedge_protocol::{Handshake, PeerId, User};
use serde::{Deserialize, Serialize};

use crate::peers::Member;

/// What is stored of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPeer {
    /// The room clock of its token, which tells the peers of a session apart.
    pub clock: u64,
    /// Whether it is the host.
    pub host: bool,
    /// The user, as JSON.
    pub user: String,
    /// Its id and what it said of itself, for [`crate::Session::resumed`] alone.
    pub handshake: Bytes,
}

/// A peer's id and handshake, as written down. Fields that a reader does not know are skipped, those that a writer did
/// not know have defaults: during an upgrade, owners of different versions read each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WrittenHandshake {
    id: String,
    public_key: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    compression: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_silent: bool,
}

/// A request in flight, as written down: who waits, under which id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct WrittenRequest {
    pub(crate) clock: u64,
    pub(crate) id: Bytes,
}

impl WrittenRequest {
    /// Those of several lists, each of which follows on the one before. A request may be in more than one. What follows on
    /// something that cannot be read is left out.
    pub(crate) fn read_all(mut lists: &[u8]) -> Vec<Self> {
        let (mut requests, mut known) = (Vec::new(), HashSet::new());
        while !lists.is_empty()
            && let Ok(list) = rmp_serde::from_read::<_, Vec<Self>>(&mut lists)
        {
            requests.extend(list.into_iter().filter(|request| known.insert(request.clone())));
        }
        requests
    }
}

impl StoredPeer {
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            clock: member.clock,
            host: member.host,
            user: serde_json::to_string(&member.user).unwrap_or_default(),
            handshake: encode(&WrittenHandshake::of(member)),
        }
    }

    /// The user, and the rest of what is known of the peer. `None` if they cannot be read.
    pub(crate) fn read(&self) -> Option<(User, WrittenHandshake)> {
        Some((serde_json::from_str(&self.user).ok()?, rmp_serde::from_slice(&self.handshake).ok()?))
    }
}

impl WrittenHandshake {
    pub(crate) fn of(member: &Member) -> Self {
        let Member { id, handshake, is_silent, .. } = member;
        Self {
            id: id.as_str().to_owned(),
            public_key: handshake.public_key.clone(),
            client: handshake.client.clone(),
            compression: handshake.compression.clone(),
            is_silent: *is_silent,
        }
    }

    pub(crate) fn read(self) -> (PeerId, Handshake) {
        let Self { id, public_key, client, compression, .. } = self;
        (PeerId::new(&id), Handshake { public_key, client, compression })
    }
}

/// Writes a value with the names of its fields.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    // Writing plain data into memory cannot fail.
    rmp_serde::to_vec_named(value).unwrap_or_default().into()
}
