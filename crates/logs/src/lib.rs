//! The logs that operators read.
//!
//! - [`server`]: what the program says of itself, on stderr for people or as JSON, and in `server.log`, `error.log` and
//!   `sessions.log` in the forms that operators' scripts know.
//! - [`access`]: one line a request, in nginx's combined format, written off the hot path.
//! - [`usage`]: `usage.log`, the users online and in sessions.
//! - [`file`](mod@file): files that several processes append to, set aside by size and age.
//! - [`dropped`]: what could not be written, counted.
//! - [`spell`]: a trouble that comes many times in a row is told twice.
//! - [`zone`]: the time zone of all of them.
//! - [`redact`]: what is taken out of a request line before it may be logged. No token is ever in a log.

#![forbid(unsafe_code)]

pub mod access;
pub mod dropped;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod lines;
pub mod redact;
pub mod server;
pub mod spell;
pub mod usage;
pub mod zone;

pub use access::{AccessLine, AccessLog};
pub use dropped::lines_dropped;
pub use file::Rotation;
pub use redact::redact;
pub use server::{Format, Level, LogFiles, Logs, init};
pub use spell::Spell;
pub use usage::UsageLog;
pub use zone::Zone;
