//! The public endpoint: it pins every session to one node.
//!
//! [`Balancer::bind`] takes the ports, [`Balancer::run`] serves until it is told to stop, and a [`Handle`] reloads the
//! settings meanwhile. The balancer holds no truth: kill it and start another, and nothing but its sockets is lost.
//! It is the only crate that imports Pingora.

mod balancer;
mod handle;

pub use balancer::{Addresses, Balancer, BindError, RunError};
pub use handle::{Handle, ReloadError, Reloaded, SettingsSource};
