//! Decides which node a request goes to.
//!
//! - [`source`]: finds the key that a request carries, and decides when the cookie is due.
//! - [`node`]: a node as the balancer knows it: state, weight, load.
//! - [`health`]: the state machine that turns checks and failed connects into states.
//! - [`pins`]: the bounded memory of where keys live.
//! - [`router`]: brings them together: choose, redirect, tunnels, changes of the node list.
//! - [`route`]: the way of one request over as many nodes as it takes.
//! - [`explain`]: why a key is where it is.
//!
//! This crate is pure: time comes as an argument, and nothing in here knows a socket.

#![forbid(unsafe_code)]

mod carriers;
pub mod explain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
mod lru;
pub mod node;
pub mod pins;
pub mod route;
pub mod router;
pub mod source;
mod table;

pub use explain::{Explanation, PinView, RankedNode};
pub use health::{ConnectFailure, HealthMachine, StateChange, Thresholds};
pub use node::{Node, NodeId, NodeSpec, NodeState};
pub use pins::{PinCounts, PinReason, RedirectReason};
pub use route::{Answer, Refused, Retry, Route, Step, TRIES_MAX, Then};
pub use router::{Choice, NodeChanges, Owner, Placed, Redirected, Router, RouterSettings, TunnelTicket, TwoOwners};
pub use source::{Finding, Found, KeyFinder, KeyNames, KeySource, RequestView, Standing};
