//! The driver gives sessions away.

use std::sync::Arc;
use std::time::Instant;

use ctedge_ownership::Estate;
use ctedge_wire::Key;

use super::begin::stored_peer;
use super::driver::{Done, Driver};
use super::logins;
use crate::hub::Export;

/// A session that is ready to be handed off; without an estate it has ended on its way.
pub(super) struct Given {
    key: Key,
    estate: Option<Estate>,
}

impl Driver {
    /// Lets the session close its transports, which takes a moment.
    pub(super) fn start_moving(&mut self, key: Key) {
        if self.login_keys.remove(&key) {
            let estate = logins::take(&self.app.logins, &key, Instant::now()).map(logins::write);
            let estate = estate.map(|bytes| Estate { bytes, ..Estate::default() });
            return self.given(Given { key, estate }, Instant::now());
        }
        let hub = Arc::clone(&self.app.hub);
        self.tasks.spawn(async move {
            let estate = hub.export(&key).await.map(estate);
            Done::Given(Given { key, estate })
        });
    }

    /// From here on the session is in its estate alone.
    pub(super) fn given(&mut self, given: Given, now: Instant) {
        let Given { key, estate } = given;
        match estate {
            Some(estate) => {
                self.app.hub.let_go(&key);
                self.machine.moved(&key, estate, now);
            }
            None => self.machine.session_ended(&key, now),
        }
    }
}

fn estate(export: Export) -> Estate {
    let Export { estate, peers, in_flight } = export;
    let in_flight = Some(in_flight).filter(|in_flight| !in_flight.is_empty());
    Estate { bytes: estate, peers: peers.into_iter().map(stored_peer).collect(), in_flight }
}
