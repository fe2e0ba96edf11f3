//! The store against real databases: SQLite files, and a PostgreSQL of the test's own.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod conformance;
mod crash;
mod inspecting;
mod journal;
mod notes;
mod opening;
mod outage;
mod races;
mod replaced;
mod reports;
mod seats;
mod support;
