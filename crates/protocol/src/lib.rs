//! The Open Collaboration Protocol: its messages, tokens and JSON bodies.
//!
//! - [`peer`]: who takes part: users, peers, what a peer said of itself.
//! - [`token`]: the signed login and room tokens, and the peer id that follows from a room token.
//! - [`http`]: the JSON bodies of the HTTP interface, with [`info`] for what goes wrong.
//! - [`version`]: which protocol versions understand each other.
//!
//! This crate is pure: no sockets, files, clock or random source. It never looks into encrypted contents.

pub mod http;
pub mod info;
pub mod peer;
pub mod token;
pub mod version;

pub use info::{Info, InfoCode};
pub use peer::{Handshake, Peer, PeerId, User, Workspace};
pub use token::{LoginToken, RoomClaim, RoomToken, TokenRefusal, Tokens};
pub use version::{PROTOCOL_VERSION, is_compatible};
