//! What operators do, and what goes wrong.

use std::time::{Duration, Instant};

use ctedge_ownership::{Drain, HandoffReason, StoreFailure};
use ctedge_wire::NodeStatus;

use crate::client::Phase;
use crate::event::Event;
use crate::profile::Profile;
use crate::promise::Promise;
use crate::store::StoreRoom;
use crate::world::World;

/// How many nodes there may be at the same time.
const NODES_MAX: usize = 6;
/// How many there may have been.
const SLOTS_MAX: usize = 10;
/// How many clients there may have been.
const CLIENTS_MAX: usize = 30;

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Disturbance {
    /// When the next fault may begin, where they come one at a time.
    next_fault: Option<Instant>,
    over: bool,
}

impl World {
    /// Something happens.
    pub(crate) fn disturb(&mut self) {
        if self.disturbance.over {
            return;
        }
        let pause = self.profile.pause(&mut self.random);
        self.after(pause, Event::Disturb);
        let faults = match self.profile {
            Profile::Storm => self.random.chance(50),
            profile => {
                let percent = if profile == Profile::Operated { 10 } else { 50 };
                self.disturbance.next_fault.is_none_or(|at| at <= self.now) && self.random.chance(percent)
            }
        };
        match (faults, self.profile) {
            (false, _) => self.operate(),
            (true, Profile::Operated) => self.harmless_fault(),
            (true, _) => self.fault(),
        }
    }

    fn operate(&mut self) {
        match self.random.below(14) {
            0 | 1 if self.slots.len() < SLOTS_MAX && self.nodes() < NODES_MAX => {
                self.seen.list_changes += 1;
                self.add_slot();
            }
            2 => {
                // Taken off the list; its sessions stay until it is drained, or comes back.
                let slot = self.random.below(self.slots.len());
                let listed = self.slots.iter().filter(|slot| slot.listed).count();
                if !self.slots[slot].gone && (!self.slots[slot].listed || listed > 1) {
                    self.seen.list_changes += 1;
                    self.slots[slot].listed = !self.slots[slot].listed;
                    self.relist();
                }
            }
            3..6 => self.drain_one(),
            6 | 7 => {
                let balancer = self.random.below(self.balancers.len());
                if self.random.chance(50) {
                    // Killed: its sockets break. Restarted: the old process keeps them.
                    let open: Vec<usize> = self.open_connections.iter().copied().collect();
                    for connection in open {
                        if self.connections[connection].balancer == balancer {
                            self.cut(connection);
                        }
                    }
                }
                self.seen.balancer_restarts += 1;
                self.add_balancer(balancer);
            }
            8 => {
                let room = self.random.below(self.rooms.len());
                if !self.rooms[room].over && self.host_leaves(room) {
                    self.add_room();
                }
            }
            9 => {
                if let Some(process) = self.any_process() {
                    self.suspend(process);
                    self.resume_later(process);
                }
            }
            _ => self.people_do(),
        }
    }

    /// Somebody comes late, leaves, comes again, or loses the connection.
    fn people_do(&mut self) {
        let client = self.random.below(self.clients.len());
        let room = self.clients[client].room;
        match self.random.below(4) {
            0 if self.clients.len() < CLIENTS_MAX && !self.rooms[room].over => self.add_client(room),
            1 => self.guest_leaves(client),
            2 => self.reconnects(client),
            _ => {
                if let Phase::Attached(connection) = self.clients[client].phase {
                    self.cut(connection);
                }
            }
        }
    }

    fn nodes(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.gone).count()
    }

    /// Now and then a node that ends is taken away for good, if others are left.
    fn may_go_for_good(&mut self, slot: usize) {
        let is_other_listed = self.slots.iter().enumerate().any(|(index, other)| index != slot && other.listed);
        if self.nodes() > 2 && is_other_listed && self.random.chance(15) {
            self.seen.gone_for_good += 1;
            (self.slots[slot].gone, self.slots[slot].listed) = (true, false);
            self.relist();
        }
    }

    fn resume_later(&mut self, process: usize) {
        let pause =
            if self.random.chance(30) { self.random.millis(8_000, 25_000) } else { self.random.millis(500, 4_000) };
        self.after(pause, Event::Resume { process });
    }

    fn any_process(&mut self) -> Option<usize> {
        let slot = self.random.below(self.slots.len());
        let is_there = |process: &usize| self.processes[*process].alive && !self.processes[*process].frozen;
        self.slots[slot].process.filter(is_there)
    }

    /// Drains a node, in order to restart it or not. Where only operators act, they restart one after the other.
    fn drain_one(&mut self) {
        let Some(process) = self.any_process() else {
            return;
        };
        let is_busy = |slot: &crate::world::Slot| {
            !slot.gone
                && slot.process.is_none_or(|process| {
                    !self.processes[process].alive || self.processes[process].ownership.status() == NodeStatus::Draining
                })
        };
        if self.profile.is_orderly() && self.slots.iter().any(is_busy) {
            return;
        }
        let exit = self.random.chance(70);
        let deadline = match self.random.below(3) {
            0 => Some(Duration::ZERO),
            1 => Some(self.random.millis(0, 5_000)),
            _ if exit => Some(self.random.millis(1_000, 3_000)),
            _ => None,
        };
        self.seen.drains += 1;
        if exit {
            self.may_go_for_good(self.processes[process].slot);
        }
        self.drain(process, Drain { deadline, exit, reason: HandoffReason::DrainDeadline });
        if !exit {
            self.resume_later(process);
        }
    }

    /// What must lose nothing goes wrong.
    fn harmless_fault(&mut self) {
        let is_deafness = self.random.chance(50);
        let length = match self.any_process() {
            Some(process) if is_deafness => self.deafen(process),
            _ => {
                // Longer than a handoff is tried.
                let length = self.random.millis(5_000, 20_000);
                self.run_out_of_room(length);
                length
            }
        };
        self.disturbance.next_fault = Some(self.now + length + Duration::from_secs(15));
    }

    /// A process has no descriptors left, or its listener is dead. It passes after a moment, or never. Returns how long it takes.
    fn deafen(&mut self, process: usize) -> Duration {
        let node = &mut self.processes[process];
        (node.deaf, node.unreached_as) = (true, Some(node.ownership.lease().clone()));
        self.disturbed();
        if self.random.chance(30) {
            let length = self.random.millis(500, 12_000);
            self.after(length, Event::Hears { process });
            return length;
        }
        // Until the node has found out and has handed its sessions over.
        Duration::from_secs(30)
    }

    pub(crate) fn hears(&mut self, process: usize) {
        if std::mem::take(&mut self.processes[process].deaf) {
            self.processes[process].returned = Some(self.now);
            self.disturbed();
        }
    }

    fn run_out_of_room(&mut self, length: Duration) {
        self.store_room = if self.random.chance(70) { StoreRoom::Scarce } else { StoreRoom::None };
        self.refusal = if self.random.chance(70) { StoreFailure::Full } else { StoreFailure::Broken };
        self.after(length, Event::RoomMade);
    }

    fn fault(&mut self) {
        let Some(process) = self.any_process() else {
            return;
        };
        if self.random.chance(15) {
            return self.harmless_fault();
        }
        let length = self.profile.outage(&mut self.random);
        match self.random.below(9) {
            0..2 => self.kill(process),
            2..5 => {
                self.seen.freezes += 1;
                self.processes[process].frozen = true;
                self.disturbed();
                self.after(length, Event::Thaw { process });
            }
            5 => {
                self.processes[process].has_store = false;
                self.after(length, Event::StoreMended { process: Some(process) });
            }
            6 => {
                self.store_is_up = false;
                self.after(length, Event::StoreMended { process: None });
            }
            _ => {
                // Long enough for a takeover, and short beside the grace of a peer that lost its connection before.
                let length = if self.profile.is_orderly() { self.random.millis(2_000, 8_000) } else { length };
                self.part(process, length);
            }
        }
        self.disturbance.next_fault = Some(self.now + length + Duration::from_secs(15));
    }

    /// A process, and others by chance, are cut off from all else but the balancers.
    fn part(&mut self, first: usize, length: Duration) {
        for process in 0..self.processes.len() {
            if self.processes[process].alive && (process == first || self.random.chance(20)) {
                self.seen.parted += 1;
                let node = &mut self.processes[process];
                (node.apart, node.unreached_as) = (true, Some(node.ownership.lease().clone()));
                self.after(length, Event::Rejoined { process });
            }
        }
        self.disturbed();
    }

    pub(crate) fn rejoined(&mut self, process: usize) {
        if std::mem::take(&mut self.processes[process].apart) {
            let now = self.now;
            (self.processes[process].returned, self.processes[process].able_since) = (Some(now), now);
            self.disturbed();
        }
    }

    fn kill(&mut self, process: usize) {
        self.seen.kills += 1;
        self.disturbed();
        let slot = self.processes[process].slot;
        let lease = self.processes[process].ownership.lease().clone();
        self.end_process(process);
        if self.has_supervisor {
            let pause = self.random.millis(0, 200);
            self.after(pause, Event::SupervisorEnds(lease));
        }
        self.may_go_for_good(slot);
        let pause = self.random.millis(200, 10_000);
        self.after(pause, Event::Start { slot });
    }

    /// The process has drained and ends.
    pub(crate) fn exit(&mut self, process: usize) {
        let slot = self.processes[process].slot;
        let left = self.processes[process].rooms.len();
        self.check(Promise::OrdersEndNothing, left == 0, || format!("{process} exits with {left} sessions"));
        self.end_process(process);
        self.exchanged(process);
        let pause = self.random.millis(200, 5_000);
        self.after(pause, Event::Start { slot });
    }

    pub(crate) fn stop_timeout(&mut self, process: usize) {
        if self.processes[process].alive && self.processes[process].stops == Some(self.now) {
            self.check(Promise::OrdersEndNothing, !self.profile.is_orderly(), || {
                format!("{process} does not finish its drain")
            });
            self.kill(process);
        }
    }

    pub(crate) fn thaw(&mut self, process: usize) {
        if !std::mem::take(&mut self.processes[process].frozen) {
            return;
        }
        let now = self.now;
        (self.processes[process].returned, self.processes[process].able_since) = (Some(now), now);
        self.disturbed();
        let mut inbox = std::mem::take(&mut self.processes[process].inbox);
        if self.random.chance(50) {
            // Timers may come first or last.
            inbox.sort_by_key(|event| !matches!(event, Event::Timer { .. }));
        }
        for event in inbox {
            self.at(self.now, event);
        }
    }

    pub(crate) fn store_mended(&mut self, process: Option<usize>) {
        let now = self.now;
        match process {
            Some(process) => (self.processes[process].has_store, self.processes[process].able_since) = (true, now),
            None => {
                self.store_is_up = true;
                self.processes.iter_mut().for_each(|process| process.able_since = now);
            }
        }
        self.disturbed();
    }

    pub(crate) fn room_made(&mut self) {
        let now = self.now;
        match std::mem::replace(&mut self.store_room, StoreRoom::Ample) {
            StoreRoom::Ample => return,
            // Beats and journals were taken all the time.
            StoreRoom::Scarce => {}
            StoreRoom::None => self.processes.iter_mut().for_each(|process| process.able_since = now),
        }
        self.disturbed();
    }

    /// Nothing goes wrong from here on.
    pub(crate) fn mend(&mut self) {
        self.disturbance.over = true;
        self.store_mended(None);
        self.room_made();
        (self.store_loss, self.net_loss) = (0, 0);
        for process in 0..self.processes.len() {
            self.store_mended(Some(process));
            self.rejoined(process);
            self.hears(process);
            self.thaw(process);
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].gone {
                continue;
            }
            self.slots[slot].listed = true;
            self.after(Duration::from_secs(1), Event::Start { slot });
            if let Some(process) = self.slots[slot].process.filter(|process| self.processes[*process].alive) {
                self.after(Duration::from_secs(1), Event::Resume { process });
            }
        }
        self.relist();
        self.mended();
    }
}
