//! One edge node: it relays the sessions it owns.
//!
//! - [`node`]: binding, running and stopping a node.
//! - [`handle`]: what others may know of a node and tell it.
//! - [`hub`]: the sessions, and the attachments between them and the transports.
//! - `transport`: how messages reach peers: Engine.IO over polling and WebSockets.
//! - `http`: the HTTP interface and its pages; `serve` is the server under it, `app` what its handlers share.
//! - [`connections`]: the count of open transport connections, and the signal to close them.
//! - [`ownership`]: which node owns which session, shared through a store.
//! - [`license`]: what the license is worth at the moment, and the seats that it gives.
//! - `pending`: the bounded table of what waits for a decision.
//! - [`status`], [`metrics`], `figures`, `lag`, `usage`: what a node says of itself.
//! - `reach`: whether anybody reaches the node.
//! - `suspension`: an order of an operator that outlives the process.
//! - [`stop`], `clock`: a switch that is thrown once; time and random bytes for the pure crates.

#![forbid(unsafe_code)]

mod app;
mod clock;
pub mod connections;
mod figures;
pub mod handle;
mod http;
pub mod hub;
mod lag;
pub mod license;
mod lone;
pub mod metrics;
pub mod node;
pub mod ownership;
mod pending;
mod reach;
mod serve;
mod sign_on;
pub mod status;
pub mod stop;
mod suspension;
mod transport;
mod usage;

/// What holds for any bytes of a client, for the fuzz target.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// WebSocket frames.
    pub fn frames(bytes: &[u8]) {
        crate::transport::frames_hold_for(bytes);
    }
}

pub use handle::NodeHandle;
pub use node::Node;
