//! What is wrong with a deployment, from what was found out about it, and what to do.
//!
//! - [`facts`]: what a probe found out, without a judgement.
//! - `judge`: one file for each check: facts in, findings out.
//! - [`finding`]: a check, how bad it is, one sentence, a remedy.
//! - [`diagnosis`]: all findings, as people and programs read them, and which of the causes of "session unavailable"
//!   are among them.
//!
//! This crate is pure: whoever calls has done the probing.

#![forbid(unsafe_code)]

pub mod diagnosis;
pub mod facts;
pub mod finding;
mod judge;

pub use diagnosis::Diagnosis;
pub use facts::Facts;
pub use finding::{CODES, Cause, Check, Finding, Severity};
pub use judge::examine;
