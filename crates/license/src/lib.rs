//! Licenses: what they say, who signed them, what they are worth here, and the seats that they give.
//!
//! - [`Terms`] and [`License`]: what was agreed, its canonical form, and the signature over that.
//! - [`PublicKey`], [`PrivateKey`], [`Signature`]: Ed25519, and how each is written.
//! - [`properties`], [`shell`], [`Fields`]: the files and variables that a license is read from and written to.
//! - [`judge`] and [`Verdict`]: what a license is worth on this day at this server.
//! - [`seats`]: one node's share of the seats that all nodes have together.
//! - [`Day`]: a day of the calendar.
//!
//! This crate is pure: files, variables, the day and randomness are handed in. Everything that parses takes arbitrary
//! text without a panic.

#![forbid(unsafe_code)]

mod day;
mod fields;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod key;
mod license;
pub mod properties;
pub mod seats;
pub mod shell;
mod terms;
mod verdict;

pub use day::Day;
pub use fields::{Field, Fields, FileKind, Malformed, file_text};
pub use key::{KeyFault, PrivateKey, PublicKey, Signature};
pub use license::License;
pub use terms::{Locator, TermFault, Terms};
pub use verdict::{EVALUATION_SEATS, Found, Verdict, WARNING_DAYS, judge};
