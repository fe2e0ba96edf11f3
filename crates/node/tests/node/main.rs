//! A node as its clients, its balancer and its operators meet it: over real sockets.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod figures;
mod license;
mod login;
mod operating;
mod pages;
mod placement;
mod secrets;
mod sessions;
mod sharing;
mod support;
