//! The polling sessions of a node, by `sid`. Bounded by the connection slots: each session holds one.

use std::collections::HashMap;
use std::sync::Arc;

use ctedge_wire::KeyedToken;
use parking_lot::Mutex;

use super::polling::PollingSession;

/// The polling sessions of a node.
#[derive(Default)]
pub(super) struct Table {
    sessions: Mutex<HashMap<KeyedToken, Arc<PollingSession>>>,
}

impl Table {
    pub(super) fn insert(&self, session: &Arc<PollingSession>) {
        self.sessions.lock().insert(session.sid().clone(), Arc::clone(session));
    }

    /// The session of a `sid` as a client wrote it.
    pub(super) fn find(&self, sid: &str) -> Option<Arc<PollingSession>> {
        let sid = KeyedToken::parse(sid)?;
        self.sessions.lock().get(&sid).cloned()
    }

    pub(super) fn remove(&self, sid: &KeyedToken) {
        self.sessions.lock().remove(sid);
    }
}
