//! What operators order of a node, and what a node may do by it.

use std::time::{Duration, Instant};

use ctedge_ownership::{Command, Drain, Fence, LeaseId};
use ctedge_wire::Key;

use crate::event::Event;
use crate::fault::Fault;
use crate::promise::Promise;
use crate::world::World;

/// How long a node that was told to stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// After what time all others know that a node takes nothing new: a beat of its own within `lost_after`, one of theirs
/// within the same, and their ways.
const HEARD_WITHIN: Duration = Duration::from_secs(8);

/// An order that has not been taken back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    since: Instant,
    /// When handoffs may begin. `None`: never, it only takes nothing new.
    gives_at: Option<Instant>,
}

impl World {
    pub(crate) fn drain(&mut self, process: usize, drain: Drain) {
        let now = self.now;
        if self.breaks(Fault::AcceptsWhileDraining) && drain.deadline.is_some_and(|left| !left.is_zero()) {
            let late = Drain { deadline: Some(Duration::ZERO), ..drain };
            self.after(drain.deadline.unwrap_or_default(), Event::Drain { process, drain: late });
        } else {
            let given = self.order_as_given(drain);
            self.processes[process].ownership.drain(given, now);
            let order = self.processes[process].ownership.drain_progress(now).map(|progress| progress.drain);
            if order != Some(given) {
                // It is giving up its sessions in order to exit, and does not turn back.
                return;
            }
        }
        let node = &mut self.processes[process];
        node.order = Some(Order { since: now, gives_at: drain.deadline.map(|left| now + left) });
        node.started_moving = None;
        if drain.exit {
            let stops = now + STOP_TIMEOUT + drain.deadline.unwrap_or_default();
            node.stops = Some(stops);
            self.at(stops, Event::StopTimeout { process });
        }
        self.carry_out(process);
    }

    pub(crate) fn suspend(&mut self, process: usize) {
        let node = &mut self.processes[process];
        if node.ownership.suspend() {
            (node.stops, node.order) = (None, Some(Order { since: self.now, gives_at: None }));
        }
        self.carry_out(process);
    }

    pub(crate) fn resume(&mut self, process: usize) {
        let node = &mut self.processes[process];
        if node.ownership.resume() {
            (node.stops, node.order) = (None, None);
            self.exchanged(process);
        }
        self.carry_out(process);
    }

    /// A node begins to hand a session off: it was told to, its deadline has come, and one follows the other.
    pub(crate) fn check_giving(&mut self, process: usize, key: &Key) {
        let now = self.now;
        let order = self.processes[process].order;
        let gives_at = order.and_then(|order| order.gives_at);
        self.check(Promise::ListsMoveNothing, order.is_some(), || {
            format!("{key} moves and {process} was told nothing")
        });
        self.check(Promise::OrdersEndNothing, gives_at.is_some_and(|at| at <= now), || {
            format!("{key} moves before the deadline of {process}")
        });
        let last = self.processes[process].started_moving.replace(now);
        let spacing = Duration::from_secs(1) / self.settings.handoffs_per_second;
        self.check(Promise::OrdersEndNothing, last.is_none_or(|last| last + spacing <= now), || {
            format!("{process} begins two handoffs within {:?}", last.map(|last| now - last))
        });
        self.processes[process].given.insert(key.clone());
    }

    /// What a node asks of the store while it takes nothing new, and whom it gives sessions to.
    pub(crate) fn check_command(&mut self, process: usize, command: &Command) {
        match command {
            Command::Create { key, .. } => {
                let node = &mut self.processes[process];
                // A creation that had begun may be tried again.
                let may = node.order.is_none() || node.creating.contains(key);
                node.creating.insert(key.clone());
                self.check(Promise::OrdersEndNothing, may, || format!("{key} is begun on {process}, which drains"));
            }
            Command::HandOff { key, epoch, to: Some(to), .. } => {
                let chosen = (*epoch, to.clone());
                let before = self.processes[process].choices.insert(key.clone(), chosen.clone());
                if before != Some(chosen) {
                    self.check_target(process, key, to);
                }
            }
            _ => {}
        }
    }

    fn check_target(&mut self, process: usize, key: &Key, to: &LeaseId) {
        let Some(target) = self.process_of(to) else {
            return;
        };
        let now = self.now;
        let long_ago = |since: Instant| now.saturating_duration_since(since) >= HEARD_WITHIN;
        let is_told = self.processes[target].order.is_some_and(|order| long_ago(order.since)) && target != process;
        let hears = |process: &crate::process::Process| {
            long_ago(process.able_since) && matches!(process.ownership.fence(), Fence::OpenUntil(until) if now < until)
        };
        // Beats that are executed late tell what was true long before.
        let knows = self.store_loss == 0 && hears(&self.processes[process]) && hears(&self.processes[target]);
        self.check(Promise::OrdersEndNothing, !(is_told && knows), || {
            format!("{process} gives {key} to {target}, which takes nothing new")
        });
    }
}
