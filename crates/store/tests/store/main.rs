//! The store against real databases: SQLite files, and a PostgreSQL of the test's own.

mod conformance;
mod journal;
mod opening;
mod outage;
mod races;
mod reports;
mod seats;
mod support;
