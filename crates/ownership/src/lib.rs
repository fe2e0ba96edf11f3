//! Decides which node owns which session.
//!
//! - [`ownership`]: one node's decisions, a state machine without IO.
//! - [`ask`]: what a request asks of it and is told; [`action`]: what the node must do; [`drain`]: what operators order.
//! - [`command`]: what it asks of the store, one atomic transaction each; [`model`]: what the store must do, executable.
//! - [`id`], [`record`]: nodes, leases, epochs, and what the store keeps of them.
//!
//! This crate is pure: time comes as an argument, and nothing in here knows a socket, a file or a database.

#![forbid(unsafe_code)]

pub mod action;
pub mod ask;
pub mod command;
pub mod drain;
pub mod id;
pub mod model;
pub mod ownership;
pub mod ranking;
pub mod record;
pub mod settings;

pub use action::{Action, CommandId, Event, Fence, LetGo, LetGoReason, Origin};
pub use ask::{Ask, Ticket, Unavailable, Verdict, Wants};
pub use command::{Command, Estate, Outcome, StoreFailure};
pub use drain::{Drain, DrainProgress};
pub use id::{Epoch, LeaseId, NodeId};
pub use model::StoreModel;
pub use ownership::Ownership;
pub use ranking::Ranking;
pub use record::{Lease, Legacy, Record, StoredPeer};
pub use settings::OwnershipSettings;
