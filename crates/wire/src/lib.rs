//! What balancer and node say to each other, and nothing else: the two meet on this wire alone.
//!
//! - [`key`]: the stickiness value, and the tokens that carry it.
//! - [`secret`]: the cluster secret and what is derived from it.
//! - [`health`]: the body of `/ct-health/`.
//! - [`redirect`]: the answer 421, "not mine".
//! - [`unreachable`]: which nodes a balancer cannot reach.
//! - [`headers`]: the names of the headers between the two.
//! - [`away`]: a balancer's word within a client's WebSocket.
//!
//! This crate is pure: no sockets, files, clock or random source.

#![forbid(unsafe_code)]

pub mod away;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod headers;
pub mod health;
pub mod key;
pub mod redirect;
pub mod secret;
pub mod unreachable;

pub use away::SEND_AWAY;
pub use health::{
    DrainPhase, DrainPlan, DrainProgress, DrainTarget, HealthReport, LeaseOver, LicenseReport, NodeStatus, SeatsReport,
    StoreState,
};
pub use key::{Key, KeyedToken, MalformedKey, Random};
pub use redirect::Redirect;
pub use secret::ClusterSecret;
pub use unreachable::{UNREACHABLE_MAX, read_unreachable, write_unreachable};
