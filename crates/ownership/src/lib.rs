//! Decides which node owns which session.
//!
//! - [`ownership`]: one node's decisions, a state machine without IO.
//! - [`ask`]: what a request asks of it and is told; [`action`]: what the node must do; [`drain`]: what operators order;
//!   [`event`]: what is worth counting, and why it happened.
//! - [`command`]: what it asks of the store, one atomic transaction each; [`model`]: what the store must do, executable.
//! - [`id`], [`record`]: nodes, leases, epochs, and what the store keeps of them.
//!
//! # The own lease
//!
//! ```text
//!             registered           drain with exit, nothing left
//! Registering ─────────▶ Living ──────────────────────────────▶ Leaving ─▶ Gone
//!      ▲                   │ "your lease has ended"
//!      └── RegisterAnew ── LettingGo: all transports closed, all sessions forgotten
//! ```
//!
//! While it lives, the *fence* says whether sessions may be served:
//!
//! ```text
//!              the last successful beat is `lost_after` old
//! OpenUntil ──────────────────────────────────────────────▶ Closed ◀── the process was away, and
//!     ▲  ▲                                                    │        the store does not answer
//!     │  └──────────────── a beat succeeds ───────────────────┤
//!     │                                                       ▼ no beat is answered, and the process was never away
//!     └─────────────────── a beat succeeds ─────────────── CutOffUntil (prolonged four times a second)
//! ```
//!
//! Two things keep the fence and those who end leases apart. A lease is called silent only after at least `lost_after`
//! without a beat, and a node counts its own time from when a beat was *sent*, so that its fence closes first. And a
//! silent lease is ended only if its node does not answer a probe: whoever goes on without the store answers probes, and
//! whoever was away for as long as a probe takes does not go on.
//!
//! What this cannot see: a node that has lost the store *and* every other node, but is still reached by a balancer. It
//! goes on, and so does whoever takes over its sessions, until it finds the store again; balancers notice it by the epochs.
//!
//! # A key
//!
//! ```text
//!                   ┌─▶ Creating ───────────────────────────┐
//! asked ─▶ Looking ─┼─▶ Awaiting (owner out of reach)       │
//!             │     ├─▶ TakingOver ─┬──────────────────────▶├─▶ Owned ─▶ Moving ─▶ HandingOff ─▶ forgotten
//!             │     └─▶ Reading ────┼──────────────────────▶│     │
//!             │           ▲         └▶ Adopting (estate) ──▶┘     └─▶ Deleting ─▶ forgotten
//!             ▼           │ the heartbeat tells of an estate
//!          redirected, missing, refused
//! ```
//!
//! A command without an outcome may have been executed. It is given again until the store says what became of it; who
//! waits is refused meanwhile. A handoff that a store fails to execute for too long is withdrawn: its session takes a fresh
//! epoch, which no late handoff can change, and is owned again until its next turn. An estate is read first and removed
//! from the store second, before the session goes on, so that no crash and no lost answer can lose it or use it twice.
//!
//! This crate is pure: time comes as an argument, and nothing in here knows a socket, a file or a database.

#![forbid(unsafe_code)]

pub mod action;
pub mod ask;
pub mod command;
pub mod drain;
pub mod event;
pub mod id;
pub mod model;
pub mod ownership;
pub mod ranking;
pub mod record;
pub mod seats;
pub mod settings;

pub use action::{Action, CommandId, Fence, LetGo, LetGoReason, Origin};
pub use ask::{Ask, Ticket, Unavailable, Verdict, Wants};
pub use command::{Command, Estate, Outcome, StoreFailure};
pub use drain::{Drain, DrainProgress, HandoffReason};
pub use event::{Event, RedirectReason};
pub use id::{Epoch, LeaseId, NodeId};
pub use model::StoreModel;
pub use ownership::Ownership;
pub use ranking::Ranking;
pub use record::{Lease, LeaseEnd, Legacy, Record, StoredPeer};
pub use seats::{SeatShare, SeatWish};
pub use settings::OwnershipSettings;
