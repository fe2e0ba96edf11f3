//! The settings file, the settled settings, and every fault between them.
//!
//! - `file`: the shape of the TOML file, each setting with its meaning and default.
//! - [`settled`]: what the roles receive.

pub mod settled;

pub use settled::*;
