//! The transports of a node over real sockets, driven by a client that knows no more than RFC 6455, Engine.IO 4 and
//! Socket.IO 5.

// A failed unwrap in a helper fails the test that called it.
#![allow(clippy::unwrap_used)]

mod bounds;
mod client;
mod closing;
mod moving;
mod polling;
mod recovery;
mod relaying;
mod room;
mod sharing;
