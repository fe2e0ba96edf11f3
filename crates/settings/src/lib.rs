//! The settings file, the settled settings, and every fault between them.
//!
//! - [`parse`] and [`Settings`]: from a file's text to what the roles receive.
//! - `file`, `listed`, `server_url`, `store_url`: every setting with its meaning, default and range.
//! - `weigh`: settings that contradict each other.
//! - `changes`: which settings differ from others, and what brings each into force.
//! - `environment`: the `CT_*` variables.
//! - [`CronPattern`]: when the periodic restart is due.
//! - `reader`, `document`, `value`: how settings are read, with the line of every fault.
//! - [`settled`]: what the roles receive.
//!
//! This crate is pure: the binary reads the file and the environment and hands in what it read.

#![forbid(unsafe_code)]

mod changes;
mod cron;
mod document;
mod environment;
mod fault;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod listed;
mod reader;
mod server_url;
mod settings;
pub mod settled;
mod store_url;
#[cfg(test)]
mod tests;
mod value;
mod weigh;

pub use changes::{Takes, takes};
pub use cron::{CronPattern, WallMinute};
pub use environment::{overrides_of, variables};
pub use fault::{Fault, Origin};
pub use server_url::ServerUrl;
pub use settings::{Override, Settings, default_config, parse, parse_with};
pub use settled::*;
pub use store_url::StoreUrl;
pub use value::{Item, Value};

pub use ctedge_wire::ClusterSecret;
