//! The public endpoint: it pins every session to one node.
//!
//! [`Balancer::bind`] takes the ports, [`Balancer::run`] serves until it is told to stop, and a [`Handle`] reloads the
//! settings meanwhile. The balancer holds no truth: kill it and start another, and nothing but its sockets is lost.
//! It is the only crate that imports Pingora.
//!
//! A client's way through: [`listeners`] accept it, [`stream`] and [`limits`] bound it, [`prepare`] looks at its
//! request and [`route`] finds the node, asking one [`question`] before a body that could be sent only once; [`proxy`] or
//! [`tunnel`] carry it there, [`answer`] says no where that is the answer, [`download`] tells the node what has arrived.
//! Beside them [`membership`] and [`health`] keep the nodes, [`reload`] the settings, and [`admin`] serves the
//! operator.

#![forbid(unsafe_code)]

mod admin;
mod answer;
mod balancer;
mod client;
mod context;
mod download;
mod forwarded;
mod handle;
mod handshake;
mod health;
mod http2;
mod leaving;
mod limits;
mod listeners;
mod membership;
mod metrics;
mod placement;
mod prepare;
mod proxy;
mod question;
mod reload;
mod request;
mod route;
mod selection;
mod shared;
mod stop;
mod stream;
mod tls;
mod tunnel;
mod unread;
mod wait;

/// What holds for any bytes of a node, for the fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::tunnel::{dial, frames_hold_for};

    /// The head of an answer.
    pub fn answer(bytes: &[u8]) {
        dial::heads_hold_for(bytes);
    }

    /// The chunks of an answer.
    pub fn chunks(bytes: &[u8]) {
        dial::chunks_hold_for(bytes);
    }

    /// WebSocket frames that pass by.
    pub fn passing(bytes: &[u8]) {
        frames_hold_for(bytes);
    }
}

pub use balancer::{Addresses, Balancer, BindError, Listening, RunError};
pub use handle::{Handle, ReloadError, Reloaded, SettingsSource};
pub use tls::CertificateError;
