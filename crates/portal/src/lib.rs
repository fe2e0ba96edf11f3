//! The pages for people beside the sessions: client downloads, logs, dashboard.
//!
//! - [`portal`]: what all pages share, and the router of all of them.
//! - `clients`: what is offered below `/clients`.
//! - [`ide`]: the editors that clients are offered for.

mod clients;
pub mod ide;
pub mod portal;

pub use clients::Download;
pub use ide::Ide;
pub use portal::{Portal, Surroundings, router};
