//! The driver gives sessions away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ctedge_ownership::{Epoch, Estate, NodeId};
use ctedge_wire::{DrainPlan, DrainTarget, Key};

use super::begin::stored_peer;
use super::driver::{Done, Driver};
use super::logins;
use crate::app::App;
use crate::clock;
use crate::hub::Export;

/// A session that is ready to be handed off; without an estate it has ended on its way.
pub(super) struct Given {
    key: Key,
    /// Since when this node owns it.
    epoch: Epoch,
    estate: Option<Estate>,
}

impl Driver {
    /// Lets the session close its transports, which takes a moment.
    pub(super) fn start_moving(&mut self, key: Key, epoch: Epoch) {
        if self.login_keys.leave(&key) {
            let waiting = logins::take(&self.app.logins, &key, Instant::now());
            let estate = waiting.map(|waiting| Estate { bytes: logins::write(waiting, b""), ..Estate::default() });
            return self.given(Given { key, epoch, estate }, clock::awake_or_not());
        }
        let (app, within) = (Arc::clone(&self.app), self.move_within());
        self.tasks.spawn(async move {
            let estate = app.hub.export(&key, within).await.map(|export| estate(&app, &key, export));
            Done::Given(Given { key, epoch, estate })
        });
    }

    /// What a drain would move, without what is no session: keys that are owned for logins alone.
    pub(super) fn foresee(&mut self) -> DrainPlan {
        let mut plan = DrainPlan::default();
        let mut targets: BTreeMap<NodeId, DrainTarget> = BTreeMap::new();
        for (key, target) in self.machine.plan_drain() {
            if self.login_keys.contains(&key) {
                continue;
            }
            let peers = self.app.hub.peers_of(&key) as u64;
            plan.sessions += 1;
            plan.peers += peers;
            if let Some(node) = target {
                let name = node.as_str().to_owned();
                let target =
                    targets.entry(node).or_insert_with(|| DrainTarget { node: name, ..DrainTarget::default() });
                target.sessions += 1;
                target.peers += peers;
            }
        }
        plan.targets = targets.into_values().collect();
        plan
    }

    /// From here on the session is in its estate alone; unless it was let go on its way, and with it its part here.
    pub(super) fn given(&mut self, given: Given, now: Instant) {
        let Given { key, epoch, estate } = given;
        match estate {
            Some(estate) => {
                if self.machine.moved(&key, epoch, estate, now) {
                    self.app.hub.let_go(&key);
                }
            }
            None => self.machine.session_ended(&key, epoch, now),
        }
    }
}

/// A session, with the logins that wait under its key.
fn estate(app: &App, key: &Key, export: Export) -> Estate {
    let Export { estate: session, peers, in_flight } = export;
    let in_flight = Some(in_flight).filter(|in_flight| !in_flight.is_empty());
    let bytes = match logins::take(&app.logins, key, Instant::now()) {
        Some(waiting) => logins::write(waiting, &session),
        None => session,
    };
    Estate { bytes, peers: peers.into_iter().map(stored_peer).collect(), in_flight }
}
