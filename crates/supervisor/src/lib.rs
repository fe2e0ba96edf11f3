//! Starts the balancer and the nodes of one machine as child processes and keeps them running.
//!
//! - [`supervisor`]: the life of `ctedge up`: start, ready, reload, stop.
//! - `plan`: which children a settings file asks for, and the effective file that they read.
//! - `child`: one child process, started again with back-off when it dies.
//! - `data`: the data folder: its lock, the cluster secret, the self-signed certificate.
//! - `leftovers`: what a dead supervisor left behind.
//! - `ports`: free ports in the place of port 0, and ports that are taken.
//! - [`admin`]: a client of the admin API.
//!
//! The supervisor holds no connection and no session: when it dies, its children stop in order, and the next
//! supervisor of the same data folder cleans up what is left.

pub mod admin;
mod backoff;
mod child;
mod data;
mod leftovers;
mod plan;
mod ports;
pub mod supervisor;

pub use admin::AdminClient;
pub use child::die_with_parent;
pub use supervisor::{Load, Stopped, Supervisor};
