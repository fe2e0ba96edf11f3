//! The router's rules, one by one. `tests/simulation.rs` has them all at once.

mod failing_over;
mod load;
mod pins;
mod placing;
mod redirects;
mod support;
