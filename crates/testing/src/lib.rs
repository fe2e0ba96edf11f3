//! What tests of several crates need. For tests alone: everything in here panics where something is not as it should be.
//!
//! - [`hostile`]: bytes as a stranger may send them.
//! - [`postgres`]: a PostgreSQL of a test's own.
//! - [`proxy`]: a TCP proxy that can be cut and stalled.

#![forbid(unsafe_code)]

pub mod hostile;
pub mod postgres;
pub mod proxy;

pub use postgres::Postgres;
pub use proxy::Proxy;
