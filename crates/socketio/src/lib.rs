//! Engine.IO 4 and Socket.IO 5, the server's side, as a state machine.
//!
//! No sockets and no clock in here: frames and payloads come in as bytes, time as an argument, and what is to be sent
//! goes into a [`Sink`] that a transport provides. One [`Engine`] is one Engine.IO session with one Socket.IO namespace
//! in it, which carries one event: `message`, with one binary attachment.
//!
//! - [`engine`]: the session: handshake, upgrade, heartbeat, connect, messages, proof of receipt.
//! - [`heartbeat`]: pings, pongs, and what a pong proves.
//! - [`upgrade`]: how polling hands over to a WebSocket.
//! - [`payload`]: the body of a polling request or answer.
//! - [`packet`]: the head of a Socket.IO packet.
//! - [`event`]: the JSON arguments of an event, read without building them.
//! - [`connect`]: what a CONNECT packet asks for.
//! - [`sink`]: where outgoing packets go.
//! - [`close`]: why a session is over.

#![forbid(unsafe_code)]

pub mod close;
pub mod connect;
pub mod engine;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod heartbeat;
mod packet;
pub mod payload;
pub mod sink;
mod upgrade;

pub use close::{CloseReason, Fault};
pub use connect::{ConnectRequest, Recovery};
pub use engine::{Engine, EngineSettings, Event, Transport};
pub use payload::PayloadSink;
pub use sink::Sink;
pub use upgrade::{ProbeStep, UpgradeRefusal};

/// How many attachments a packet may have; ours have one. The stock implementation has the same bound.
pub const ATTACHMENTS_MAX: u8 = 10;

/// The longest namespace in bytes. Clients take it from the path of the server's URL.
pub const NAMESPACE_BYTES_MAX: usize = 512;

/// The longest JSON payload of a CONNECT packet in bytes: tokens and keys have room, a flood has not.
pub const CONNECT_BYTES_MAX: usize = 64 * 1024;
