//! The six figures that operators of the original watch: unique users online, active sessions, active session
//! connections, average server lag, total sessions hosted, total downloads by IDE. Each node's own, and the sum over all.
//!
//! - [`figures`]: the figures of one node, and their sum.
//! - [`exposition`]: the figures as Prometheus text.
//! - [`statsd`]: the figures as StatsD lines.
//! - [`sender`]: brings StatsD lines to their receiver, which may be away.

pub mod exposition;
pub mod figures;
pub mod sender;
pub mod statsd;

pub use exposition::render;
pub use figures::Figures;
pub use sender::{Protocol, Sender};
pub use statsd::Naming;
