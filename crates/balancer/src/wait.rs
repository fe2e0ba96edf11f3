//! The wait of a plain request for the head of its answer, which ends when its node goes down: a process that is frozen keeps
//! its connections open, and would hold the request until the time for an answer is over.
//!
//! Pingora waits as long as the connection lives. So the connection is ended, and Pingora takes that for a node that died.

use std::os::fd::RawFd;

use nix::sys::socket::{Shutdown, shutdown};
use pingora::protocols::Digest;
use tokio::task::AbortHandle;

use crate::shared::Target;

/// Such a wait. It is over when this is dropped.
pub(crate) struct Wait(AbortHandle);

impl Wait {
    /// Begins with a request that is about to be sent to `target` over the connection `fd`. Must be called on the thread that
    /// closes it.
    pub(crate) fn begin(target: &Target, fd: RawFd, connection: &Digest) -> Option<Self> {
        let socket = connection.socket_digest.clone()?;
        // Tells the connection from a later one that has its number.
        let cookie = socket.socket_cookie().ok()?;
        let mut went_down = target.went_down.subscribe();
        let waiting = tokio::spawn(async move {
            // An error means that the node was forgotten, which ends nothing.
            let is_down = went_down.changed().await.is_ok();
            if is_down && socket.socket_cookie().is_ok_and(|current| current == cookie) {
                // One that has ended already needs no end.
                let _ = shutdown(fd, Shutdown::Both);
            }
        });
        Some(Self(waiting.abort_handle()))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.abort();
    }
}
