//! One edge node: it relays the sessions it owns.
//!
//! - [`node`]: binding, running and stopping a node.
//! - [`hub`]: the sessions, and the attachments between them and the transports.
//! - [`stop`]: a switch that is thrown once.
//! - [`connections`]: the count of open transport connections, and the signal to close them.

pub mod connections;
pub mod hub;
pub mod node;
pub mod stop;

pub use node::Node;
