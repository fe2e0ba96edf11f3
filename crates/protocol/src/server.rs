//! The messages that the server itself sends, and the few contents that it reads.
//!
//! Both are unencrypted, with `origin: ""`. Everything else between peers is opaque to the server.

use bytes::Bytes;

use crate::head::Malformed;
use crate::msgpack::{Item, Reader, write_array, write_bool, write_map, write_str};
use crate::peer::{Peer, PeerId, User, Workspace};
use crate::version::PROTOCOL_VERSION;

/// The longest workspace in bytes that a host may answer with. It goes into the memory of every waiting join.
pub const WORKSPACE_BYTES_MAX: usize = 64 * 1024;

/// What a peer can tell the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerNotification {
    /// `room/leave`: it leaves.
    Leave,
    /// Something that the server does not know.
    Unknown,
}

impl ServerNotification {
    /// Reads the content of a notification to the server.
    pub fn read(content: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(content);
        let mut method = None;
        for _ in 0..reader.map()? {
            match reader.str_bytes()? {
                b"method" => method = Some(reader.str_bytes()?),
                _ => reader.skip()?,
            }
        }
        Ok(if method == Some(b"room/leave") { Self::Leave } else { Self::Unknown })
    }
}

/// What a host answers to `peer/join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAnswer {
    /// The guest may come in, and this is shared.
    Agreed(Workspace),
    /// The guest may not.
    Refused,
}

impl JoinAnswer {
    /// Reads the content of a response to `peer/join`: `{response: {workspace: …}}` to agree; `undefined`, or anything
    /// without a workspace, to refuse.
    pub fn read(content: &[u8]) -> Result<Self, Malformed> {
        if content.len() > WORKSPACE_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        let mut reader = Reader::new(content);
        let workspace = field(&mut reader, b"response", |reader| field(reader, b"workspace", read_workspace))?;
        Ok(workspace.flatten().flatten().map_or(Self::Refused, Self::Agreed))
    }
}

/// Reads a value that may be a map, and one of its fields with `read`. `None` if there is no such field.
fn field<'a, T>(
    reader: &mut Reader<'a>,
    wanted: &[u8],
    read: impl Fn(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    let fields = match reader.item()? {
        Item::Map(fields) => fields,
        other => return reader.skip_rest(other).map(|()| None),
    };
    let mut found = None;
    for _ in 0..fields {
        if reader.str_bytes()? == wanted {
            found = Some(read(reader)?);
        } else {
            reader.skip()?;
        }
    }
    Ok(found)
}

fn read_workspace(reader: &mut Reader<'_>) -> Result<Option<Workspace>, Malformed> {
    let fields = match reader.item()? {
        Item::Map(fields) => fields,
        other => return reader.skip_rest(other).map(|()| None),
    };
    let mut workspace = Workspace { name: String::new(), folders: Vec::new() };
    for _ in 0..fields {
        match reader.str_bytes()? {
            b"name" => workspace.name = reader.str()?.to_owned(),
            b"folders" => {
                let Item::Array(folders) = reader.item()? else { return Err(Malformed::Unexpected) };
                for _ in 0..folders {
                    workspace.folders.push(reader.str()?.to_owned());
                }
            }
            _ => reader.skip()?,
        }
    }
    Ok(Some(workspace))
}

/// `peer/info`, to a peer that joined: who it is.
#[must_use]
pub fn peer_info(peer: &Peer) -> Bytes {
    let mut out = begin("notification", 2);
    write_str(&mut out, "target");
    write_str(&mut out, &peer.id);
    write_content(&mut out, "peer/info", |out| write_peer(out, peer));
    Bytes::from(out)
}

/// `room/joined`, to the others.
#[must_use]
pub fn room_joined(peer: &Peer) -> Bytes {
    let mut out = begin("broadcast", 1);
    write_content(&mut out, "room/joined", |out| write_peer(out, peer));
    Bytes::from(out)
}

/// `room/left`, to the others.
#[must_use]
pub fn room_left(peer: &Peer) -> Bytes {
    let mut out = begin("broadcast", 1);
    write_content(&mut out, "room/left", |out| write_peer(out, peer));
    Bytes::from(out)
}

/// `room/closed`, to the guests: the host is gone.
#[must_use]
pub fn room_closed() -> Bytes {
    let mut out = begin("broadcast", 1);
    write_str(&mut out, "content");
    write_map(&mut out, 2);
    write_str(&mut out, "method");
    write_str(&mut out, "room/closed");
    write_str(&mut out, "params");
    write_array(&mut out, 0);
    Bytes::from(out)
}

/// `peer/join`, to the host: may `user` come in? `id` is what the host's response will carry.
#[must_use]
pub fn join_request(id: &EncodedId, host: &PeerId, user: &User) -> Bytes {
    let mut out = begin("request", 3);
    write_str(&mut out, "id");
    out.extend_from_slice(id.as_bytes());
    write_str(&mut out, "target");
    write_str(&mut out, host.as_str());
    write_content(&mut out, "peer/join", |out| write_user(out, user));
    Bytes::from(out)
}

/// `response-error`, to a requester whom nobody else will answer. `id` is the whole value that its request carried.
#[must_use]
pub fn response_error(id: &[u8], message: &str) -> Bytes {
    let mut out = begin("response-error", 2);
    write_str(&mut out, "id");
    out.extend_from_slice(id);
    write_str(&mut out, "content");
    write_map(&mut out, 1);
    write_str(&mut out, "message");
    write_str(&mut out, message);
    Bytes::from(out)
}

/// The id of a request that the server passes on or makes: a decimal number as a text, as MessagePack. A text, because
/// the ids that clients get from the reference server are texts too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedId(Vec<u8>);

impl EncodedId {
    /// The id `number`.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let mut encoded = Vec::with_capacity(21);
        write_str(&mut encoded, &number.to_string());
        Self(encoded)
    }

    /// The number of the id that a response carries, if it can be one of ours.
    #[must_use]
    pub fn read(id: &[u8]) -> Option<u64> {
        Reader::new(id).str().ok()?.parse().ok()
    }

    /// The id as MessagePack.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The fields that every message of the server has; `more` fields are to follow, `content` among them.
fn begin(kind: &str, more: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_map(&mut out, 4 + more);
    for (name, value) in [("version", PROTOCOL_VERSION), ("kind", kind), ("origin", "")] {
        write_str(&mut out, name);
        write_str(&mut out, value);
    }
    write_str(&mut out, "metadata");
    write_map(&mut out, 2);
    write_str(&mut out, "encryption");
    write_map(&mut out, 1);
    write_str(&mut out, "keys");
    write_array(&mut out, 0);
    write_str(&mut out, "compression");
    write_map(&mut out, 1);
    write_str(&mut out, "algorithm");
    write_str(&mut out, "none");
    out
}

/// `content`, with one parameter.
fn write_content(out: &mut Vec<u8>, method: &str, write_parameter: impl FnOnce(&mut Vec<u8>)) {
    write_str(out, "content");
    write_map(out, 2);
    write_str(out, "method");
    write_str(out, method);
    write_str(out, "params");
    write_array(out, 1);
    write_parameter(out);
}

fn write_peer(out: &mut Vec<u8>, peer: &Peer) {
    write_map(out, 4 + u32::from(peer.email.is_some()));
    write_str(out, "id");
    write_str(out, &peer.id);
    write_str(out, "host");
    write_bool(out, peer.host);
    write_str(out, "name");
    write_str(out, &peer.name);
    write_email(out, peer.email.as_deref());
    write_str(out, "metadata");
    write_map(out, 2);
    write_str(out, "encryption");
    write_map(out, 1);
    write_str(out, "publicKey");
    write_str(out, &peer.metadata.encryption.public_key);
    write_str(out, "compression");
    write_map(out, 1);
    write_str(out, "supported");
    let supported = &peer.metadata.compression.supported;
    write_array(out, u32::try_from(supported.len()).unwrap_or(u32::MAX));
    for algorithm in supported {
        write_str(out, algorithm);
    }
}

fn write_user(out: &mut Vec<u8>, user: &User) {
    write_map(out, 3 + u32::from(user.email.is_some()));
    write_str(out, "id");
    write_str(out, &user.id);
    write_str(out, "name");
    write_str(out, &user.name);
    write_email(out, user.email.as_deref());
    write_str(out, "authProvider");
    write_str(out, &user.auth_provider);
}

fn write_email(out: &mut Vec<u8>, email: Option<&str>) {
    if let Some(email) = email {
        write_str(out, "email");
        write_str(out, email);
    }
}
