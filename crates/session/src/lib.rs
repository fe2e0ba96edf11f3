//! One collaboration room: its host, its guests, and what is undelivered between them.
//!
//! [`Session`] is a state machine without input or output. Whoever owns it calls it with what happened and the time,
//! and then takes [`Action`]s from [`Session::next_action`] until there is none, and asks [`Session::poll_timeout`]
//! when to call [`Session::handle_timeout`].
//!
//! - [`session`]: the state machine: attaching, returning, leaving, ending; relaying; joining with the host's consent.
//! - [`outbox`]: what one peer has been sent and has not yet proven to have.
//! - [`action`]: what the owner of a session is to do, and why peers, joins and sessions end.
//! - [`limits`]: the bounds.
//! - [`counters`]: what was relayed, and what was dropped.
//! - [`stored`]: what is stored of a peer, and of requests in flight, so that another owner can take over.
//! - `peers`: the table of peers. `pending`: the table of what waits for a response.
//!
//! What is sent to one peer is delivered in the order in which it was sent. Everything in a session is plain data, so
//! that it can be written down and brought back elsewhere.
//!
//! This crate is pure: no sockets, files, clock or random source. It never looks into encrypted contents.

#![forbid(unsafe_code)]

pub mod action;
pub mod counters;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod limits;
pub mod outbox;
mod peers;
mod pending;
pub mod session;
pub mod stored;

pub use action::{
    Acceptance, Action, AttachmentId, AuditEvent, AuditKind, CloseReason, EndReason, JoinDecision, Refusal, Warning,
};
pub use counters::Counters;
pub use limits::SessionLimits;
pub use outbox::Outbox;
pub use peers::PeerSlot;
pub use session::estate::EstateError;
pub use session::resume::ResumeError;
pub use session::{Attached, Beginning, CutReason, Session};
pub use stored::StoredPeer;
