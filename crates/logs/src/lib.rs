//! The logs that operators read: server log and access log.
//!
//! - [`server`]: what the program says of itself, for people or as JSON.
//! - [`access`]: one line a request, in nginx's combined format, written off the hot path.
//! - [`redact`]: what is taken out of a request line before it may be logged. No token is ever in a log.

pub mod access;
mod calendar;
pub mod redact;
pub mod server;

pub use access::{AccessLine, AccessLog};
pub use redact::redact;
pub use server::{Destination, Format, Level, init};
