//! The license of a node: what it is worth at the moment, and what follows from it.
//!
//! - [`counts`]: what is measured and reported.
//! - [`seats`]: who gets a seat, who waits for one, and the task that asks the store for more.
//! - [`source`]: finding the license in variables and files.
//! - [`watch`]: the verdict, which a change of a file and midnight change without a restart.

pub mod counts;
pub mod seats;
pub mod source;
pub mod watch;

pub(crate) use counts::{LicenseGauges, license_report, seats_report};
pub use seats::{NoSeat, SeatCounts};
pub(crate) use seats::{NodeSeats, SeatStore};
pub use source::{Reading, find};
pub use watch::Licensing;
