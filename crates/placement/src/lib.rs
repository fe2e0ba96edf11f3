//! The pure function from a key and the nodes to ranked nodes.
//!
//! - [`rendezvous`]: weighted rendezvous hashing, keyed, ranked lazily.
//! - [`load_bound`]: how many sessions a node may have before new ones go to the next rank.
//!
//! Every balancer of a cluster computes the same ranks from the same list, so that they agree without talking. This
//! crate never reads a clock, a random source or a node's state: who is up is the caller's business.

#![forbid(unsafe_code)]

pub mod load_bound;
pub mod rendezvous;

pub use load_bound::LoadBound;
pub use rendezvous::{Ranked, Ranking, Rendezvous};
