//! The pages for people beside the sessions: client downloads, logs, dashboard.
//!
//! - [`portal`]: what all pages share, and the router of all of them.
//! - [`clients`]: what is offered below `/clients`.
//! - [`export`]: figures and audit as files for spreadsheets.
//! - [`versions`]: which versions of this program there are.
//! - [`ide`]: the editors that clients are offered for.
//! - `page`: the frame of all pages, and what they are made of.

pub mod clients;
pub mod export;
pub mod ide;
mod page;
pub mod portal;
pub mod versions;

pub use clients::Download;
pub use ide::Ide;
pub use portal::{Portal, Surroundings, router};
