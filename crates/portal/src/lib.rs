//! The pages for people beside the sessions: client downloads, logs, dashboard.
//!
//! - [`portal`]: what all pages share, and the router of all of them.
//! - [`live`]: pages whose settings change while they are served.
//! - [`clients`]: what is offered below `/clients`.
//! - [`dashboard`]: the state of everything, for people and programs.
//! - `logs`: the log files.
//! - `guard`: who may see dashboard and logs.
//! - [`export`]: figures and audit as files for spreadsheets.
//! - [`versions`]: which versions of this program there are.
//! - [`ide`]: the editors that clients are offered for.
//! - `folder`: from the path of a request to a file, and to nothing else. `files`: how one is served.
//! - `page`: the frame of all pages, and what they are made of.

#![forbid(unsafe_code)]

pub mod clients;
pub mod dashboard;
pub mod export;
mod files;
mod folder;
mod guard;
pub mod ide;
pub mod live;
mod logs;
mod page;
pub mod portal;
pub mod versions;

/// What holds for any bytes of a client or a registry, for the fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// The path of a request below a folder.
    pub fn path(bytes: &[u8]) {
        crate::folder::hold_for(bytes);
    }

    /// What a registry wants to know of whoever asks.
    pub fn challenge(bytes: &[u8]) {
        crate::versions::challenge_holds_for(bytes);
    }
}

pub use clients::Download;
pub use ide::Ide;
pub use live::LivePages;
pub use portal::{Portal, Surroundings, router};
