//! The license of a node: what it is worth at the moment, and what follows from it.
//!
//! - [`source`]: finding the license in variables and files.
//! - [`watch`]: the verdict, which a change of a file and midnight change without a restart.

pub mod source;
pub mod watch;

pub use source::{Reading, find};
pub use watch::Licensing;
