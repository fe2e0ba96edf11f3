//! What nodes share: who owns which session, its peers, seats, audit and usage, in SQLite or PostgreSQL.
//!
//! - [`store`]: the door to all of it, [`Store`].
//! - [`entry`]: what is written behind the messages; `journal`: how; `notes`: what of it outlives `kill -9` until then.
//! - [`seats`]: licensed connections, shared out among nodes.
//! - [`report`]: what dashboards and exports read.
//! - [`inspect`]: looking at a store without changing it.
//! - [`health`]: how the store does, for health reports and metrics.
//! - `execute`: the commands of `ctedge-ownership`, each as one transaction.
//! - `call`: one transaction within its time, over and over where that helps; `lane`: connections; `fault`: what may
//!   go wrong; `row`: reading what comes back; `file`: whether the file at the path of a SQLite store is still the same.
//! - `dialect`: everything in which the two databases differ. `schema`: tables, and how they come to be.

#![forbid(unsafe_code)]

mod call;
mod dialect;
pub mod entry;
mod execute;
mod fault;
mod file;
pub mod health;
pub mod inspect;
mod journal;
mod lane;
mod notes;
pub mod report;
mod row;
mod schema;
pub mod seats;
pub mod store;

pub use entry::{Audit, AuditEvent, AuditUser, Day, Download, Entry, UnixMillis, UsageSample};
pub use fault::OpenError;
pub use health::{JournalHealth, NotesHealth, StoreHealth};
pub use inspect::{Inspection, inspect};
pub use journal::JournalMark;
pub use report::{
    AuditCursor, AuditFilter, ClientFigures, DayFigures, DownloadFigures, Forgotten, Lifetime, SessionNow, Totals,
};
pub use seats::Seats;
pub use store::Store;

pub use ctedge_ownership::{Command, LeaseEnd, Outcome, SeatWish, StoreFailure, StoredPeer};
pub use ctedge_settings::{StoreSettings, StoreUrl};
pub use ctedge_wire::health::StoreState;
