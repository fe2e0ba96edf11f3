//! The turns of a polling client: one GET and one POST at a time.

use std::mem;
use std::time::Instant;

use ctedge_socketio::CloseReason;

use super::PollingSession;

/// One request's turn. A request that is given up before its end may have cost packets: it ends the session, so that
/// the client comes back and recovers.
pub(super) struct Turn<'a> {
    session: &'a PollingSession,
    is_poll: bool,
    pub(super) is_done: bool,
}

impl<'a> Turn<'a> {
    pub(super) fn poll(session: &'a PollingSession) -> Option<Self> {
        let mut state = session.state.lock();
        if let Some(link) = state.link()
            && let Err(reason) = link.engine.begin_poll()
        {
            state.end(reason, Instant::now());
            session.changed.notify_one();
            return None;
        }
        Some(Self { session, is_poll: true, is_done: false })
    }

    pub(super) fn post(session: &'a PollingSession) -> Option<Self> {
        let mut state = session.state.lock();
        if mem::replace(&mut state.is_posting, true) {
            state.end(CloseReason::Overlap, Instant::now());
            session.changed.notify_one();
            return None;
        }
        Some(Self { session, is_poll: false, is_done: false })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.session.state.lock();
        let now = Instant::now();
        if self.is_poll {
            state.poll = None;
            if let Some(link) = state.link() {
                link.engine.end_poll(now);
            }
        } else {
            state.is_posting = false;
        }
        if !self.is_done {
            state.end(CloseReason::ClosedByPeer, now);
            self.session.changed.notify_one();
        }
    }
}
