//! A whole edge in virtual time: node processes that run the real `Ownership`, balancers that run the real `Router`
//! with the real placement, clients with numbered messages, a supervisor, and the store's model behind a network that
//! delays, reorders and loses.
//!
//! - [`world`]: everything there is, and the order of events.
//! - [`promise`]: the checks after each of them; `orders`, `agree`: those of operators' orders and of several balancers.
//! - [`fault`]: what can be wrong on purpose.
//! - `process`, `session`, `seats`, `balancer`, `client`, `store`: the parts.
//! - `disturb`: what operators and people do, and what goes wrong; [`profile`]: how much of it.
//! - [`seen`]: how often what happened.
//!
//! A run is a function of its seed. It is not part of the product: the product is held against it.

#![forbid(unsafe_code)]

mod agree;
mod balancer;
mod client;
mod disturb;
mod event;
pub mod fault;
mod journal;
mod orders;
mod process;
pub mod profile;
pub mod promise;
mod random;
mod seats;
pub mod seen;
mod session;
mod store;
pub mod world;

pub use fault::Fault;
pub use profile::Profile;
pub use promise::{Promise, Violation};
pub use seen::Seen;
pub use world::World;
