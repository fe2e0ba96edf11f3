//! A node as its clients, its balancer and its operators meet it: over real sockets.

mod login;
mod operating;
mod pages;
mod placement;
mod secrets;
mod sessions;
mod support;
