//! Starts the balancer and the nodes of one machine as child processes and keeps them running.
//!
//! - [`supervisor`]: the life of `ctedge up`: start, ready, reload; `stop`: its end.
//! - `edge`: what runs, shared by everything that acts on it; `restart`, `reload`, `processes` act on it.
//! - [`control`]: the socket that an operator's commands come by, and its client.
//! - `plan`: which children a settings file asks for, and the effective file that they read.
//! - `child`: one child process, started again with back-off when it dies.
//! - `child_log`: what a child says, within bounds.
//! - `lease`: what a node process owns its sessions by, ended when the process has died.
//! - [`sockets`]: the public sockets, which outlive every balancer.
//! - `schedule`: when the periodic restart is due.
//! - `data`: the data folder: its lock, the cluster secret, the self-signed certificate.
//! - `password`: the password of dashboard and logs where the settings have none.
//! - `leftovers`: what a dead supervisor left behind.
//! - `ports`: free ports in the place of port 0, and ports that are taken.
//! - [`admin`]: a client of the admin API.
//!
//! The supervisor holds no connection and no session: when it dies, its children stop in order, and the next
//! supervisor of the same data folder cleans up what is left.

#![forbid(unsafe_code)]

pub mod admin;
mod backoff;
mod child;
mod child_log;
pub mod control;
mod data;
mod edge;
mod lease;
mod leftovers;
mod password;
mod plan;
mod ports;
mod processes;
mod reload;
mod restart;
mod schedule;
pub mod sockets;
mod stop;
pub mod supervisor;

pub use admin::AdminClient;
pub use child::die_with_parent;
pub use data::{make_folder, warn_of_readers};
pub use lease::Leases;
pub use password::ensure_password;
pub use processes::Process;
pub use reload::Reloaded;
pub use sockets::Sockets;
pub use supervisor::{Load, Stopped, Supervisor, Surroundings, announce};
