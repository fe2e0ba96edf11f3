//! Who takes part in a session: users, peers, and what a peer said of itself when it connected.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use ctedge_wire::Key;

/// Somebody who has logged in. What a login token claims, and what the host is asked to let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Names the user across sessions.
    pub id: String,
    /// What other participants see.
    pub name: String,
    /// The address, where the user gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Who vouches for the user; `Unverified` for the form login.
    #[serde(default)]
    pub auth_provider: String,
}

/// The id of a peer within its session. It follows from the room token, so that every node gives the bearer of one
/// token the same id; [`crate::Tokens::peer_id`] makes it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(Arc<str>);

impl PeerId {
    /// Takes 32 bytes that name the peer: 24 letters and digits of them.
    pub(crate) fn from_digest(digest: &[u8; 32]) -> Self {
        Self(Key::mint(digest).as_str().into())
    }

    /// An id as it is, for whoever has it from [`crate::Tokens::peer_id`].
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PeerId({})", self.0)
    }
}

/// What a client says of itself with its transport: the `x-oct-*` headers besides the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// `x-oct-public-key`: others wrap the keys of their messages to this peer with it. Required of every client.
    pub public_key: String,
    /// `x-oct-client`: the name and version of the client.
    pub client: String,
    /// `x-oct-compression`: what the client can unpack.
    pub compression: Vec<String>,
}

impl Handshake {
    /// Takes the headers as they came. A client that names no compression has none, one without a name is `unknown`.
    #[must_use]
    pub fn new(public_key: &str, client: Option<&str>, compression: Option<&str>) -> Self {
        let mut algorithms: Vec<String> = compression
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        if algorithms.is_empty() {
            algorithms.push("none".to_owned());
        }
        let client = client.unwrap_or("unknown").to_owned();
        Self { public_key: public_key.to_owned(), client, compression: algorithms }
    }
}

/// A peer as other peers see it. The JSON form stands in the answer to a poll, the MessagePack form in messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub id: String,
    /// Whether it is the host.
    pub host: bool,
    /// The user's name.
    pub name: String,
    /// The user's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// How to talk to it.
    pub metadata: PeerMetadata,
}

impl Peer {
    /// The peer `id`, who is `user` and connected with `handshake`.
    #[must_use]
    pub fn new(id: &PeerId, host: bool, user: &User, handshake: &Handshake) -> Self {
        Self {
            id: id.as_str().to_owned(),
            host,
            name: user.name.clone(),
            email: user.email.clone(),
            metadata: PeerMetadata {
                encryption: EncryptionMetadata { public_key: handshake.public_key.clone() },
                compression: CompressionMetadata { supported: handshake.compression.clone() },
            },
        }
    }
}

/// How to talk to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMetadata {
    /// How to encrypt for it.
    pub encryption: EncryptionMetadata,
    /// What it can unpack.
    pub compression: CompressionMetadata,
}

/// How to encrypt for a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionMetadata {
    /// The peer's public key.
    pub public_key: String,
}

/// What a peer can unpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressionMetadata {
    /// The names of the algorithms.
    pub supported: Vec<String>,
}

/// What the host shares, as it told a guest that it let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// The name of the workspace.
    pub name: String,
    /// Its top-level folders.
    pub folders: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_says_nothing_of_itself_still_has_a_handshake() {
        let handshake = Handshake::new("pk", None, None);
        assert_eq!((handshake.client.as_str(), handshake.compression), ("unknown", vec!["none".to_owned()]));
        assert_eq!(Handshake::new("pk", None, Some("gzip, none,")).compression, ["gzip", "none"]);
    }

    #[test]
    fn a_peer_has_the_json_form_that_clients_read() {
        let user = User { id: "u".into(), name: "Ada".into(), email: None, auth_provider: "Unverified".into() };
        let peer = Peer::new(&PeerId::new("p"), true, &user, &Handshake::new("pk", None, Some("gzip")));
        let json = r#"{"id":"p","host":true,"name":"Ada","metadata":{"encryption":{"publicKey":"pk"},"compression":{"supported":["gzip"]}}}"#;
        assert_eq!(serde_json::to_string(&peer).unwrap(), json);
    }
}
