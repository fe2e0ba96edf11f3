//! The six figures that operators of the original watch: unique users online, active sessions, active session
//! connections, average server lag, total sessions hosted, total downloads by IDE. Each node's own, and the sum over all.
//!
//! - [`figures`]: the figures of one node, and of all together.
//! - [`users`]: different users, counted over several nodes.
//! - [`exposition`]: the figures as Prometheus text.
//! - [`statsd`]: the figures as StatsD lines.
//! - [`sender`]: brings StatsD lines to their receiver, which may be away.

#![forbid(unsafe_code)]

pub mod exposition;
pub mod figures;
pub mod sender;
pub mod statsd;
pub mod users;

pub use exposition::render;
pub use figures::{Figures, Totals};
pub use sender::{Protocol, Sender};
pub use statsd::Naming;
pub use users::Users;
