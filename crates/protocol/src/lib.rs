//! The Open Collaboration Protocol: its messages, tokens and JSON bodies.
//!
//! - [`peer`]: who takes part: users, peers, what a peer said of itself.
//! - [`token`]: the signed login and room tokens, and the peer id that follows from a room token.
//! - [`http`]: the JSON bodies of the HTTP interface, with [`info`] for what goes wrong.
//! - [`head`]: finds what a relay must know of a message, without decoding it.
//! - [`splice`]: a relayed message with its origin, id or keys replaced.
//! - [`server`]: the messages that the server itself sends, and the few contents that it reads.
//! - [`msgpack`]: the MessagePack primitives under these three.
//! - [`version`]: which protocol versions understand each other.
//!
//! This crate is pure: no sockets, files, clock or random source. It never looks into encrypted contents.

#![forbid(unsafe_code)]

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod head;
pub mod http;
pub mod info;
pub mod msgpack;
pub mod peer;
pub mod server;
pub mod splice;
pub mod token;
pub mod version;

pub use head::{Content, Head, KeyEntry, Kind, Malformed, Target};
pub use info::{Info, InfoCode};
pub use peer::{Handshake, Peer, PeerId, User, Workspace};
pub use server::{JoinAnswer, ServerNotification};
pub use token::{LoginToken, RoomClaim, RoomToken, TokenRefusal, Tokens};
pub use version::{PROTOCOL_VERSION, is_compatible};
