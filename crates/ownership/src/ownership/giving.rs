//! Drain and handoff: how a node gives up its sessions.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ctedge_wire::{Key, NodeStatus};

use super::Ownership;
use super::asking::unavailable;
use super::entry::{Entry, State};
use crate::action::{Action, Origin};
use crate::ask::Unavailable;
use crate::command::Estate;
use crate::drain::{Drain, DrainProgress, HandoffReason};
use crate::event::Event;
use crate::id::{Epoch, LeaseId, NodeId};
use crate::record::{LeaseEnd, Record};

/// What was ordered, and how far it has come.
#[derive(Debug)]
pub(super) struct Giving {
    pub(super) status: NodeStatus,
    pub(super) drain: Option<Drain>,
    /// When handoffs begin.
    deadline: Option<Instant>,
    /// Whether they have begun.
    begun: bool,
    /// Whether the end of the drain was told.
    finished: bool,
    /// When the next session may begin to move.
    next_start: Option<Instant>,
    /// When to look again, unless something happens before.
    due: Option<Instant>,
    /// Sessions that have not begun to move.
    queue: VecDeque<Key>,
    /// Those that have and are not done.
    moving: BTreeSet<Key>,
    /// Sessions that this node has parked and must not take up again: whoever comes after it does.
    parked: BTreeSet<Key>,
}

impl Giving {
    pub(super) fn new() -> Self {
        Self {
            status: NodeStatus::Ready,
            drain: None,
            deadline: None,
            begun: false,
            finished: false,
            next_start: None,
            due: None,
            queue: VecDeque::new(),
            moving: BTreeSet::new(),
            parked: BTreeSet::new(),
        }
    }

    pub(super) fn drain(&mut self, drain: Drain, now: Instant) {
        if self.exits() {
            return;
        }
        self.status = NodeStatus::Draining;
        (self.drain, self.finished) = (Some(drain), false);
        self.deadline = drain.deadline.and_then(|deadline| now.checked_add(deadline));
        self.begun = false;
    }

    /// Ends a drain, if it can still be ended.
    pub(super) fn stop(&mut self, status: NodeStatus) -> bool {
        if self.exits() {
            return false;
        }
        self.status = status;
        (self.drain, self.deadline, self.begun, self.due) = (None, None, false, None);
        self.queue.clear();
        true
    }

    /// Whether the node gives up its sessions in order to end, and cannot turn back.
    pub(super) fn exits(&self) -> bool {
        self.begun && self.drain.is_some_and(|drain| drain.exit)
    }

    pub(super) fn has_parked(&self, key: &Key) -> bool {
        self.parked.contains(key)
    }

    /// A session has come to be here. If the node is giving up its sessions, that one too.
    pub(super) fn began(&mut self, key: &Key) {
        self.parked.remove(key);
        if self.begun {
            self.queue.push_back(key.clone());
        }
    }

    pub(super) fn forget_keys(&mut self) {
        self.queue.clear();
        self.moving.clear();
        self.parked.clear();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        if self.begun { self.due } else { self.deadline }
    }

    pub(super) fn progress(&self, sessions: usize, now: Instant) -> Option<DrainProgress> {
        let drain = self.drain?;
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        let deadline_left = if self.begun { Some(Duration::ZERO) } else { left };
        Some(DrainProgress { drain, deadline_left, sessions, moving: self.moving.len() })
    }
}

impl Ownership {
    /// Goes on with a drain.
    pub(super) fn give(&mut self, now: Instant) {
        self.giving.due = None;
        let Some(drain) = self.giving.drain.filter(|_| self.life.is_living()) else {
            return;
        };
        let entries = &self.entries;
        self.giving.moving.retain(|key| entries.state(key).is_some_and(State::is_moving));
        let is_empty = self.entries.may_be_forgotten();
        if !self.giving.begun && (self.giving.deadline.is_some_and(|at| at <= now) || (is_empty && drain.exit)) {
            self.giving.begun = true;
            self.giving.next_start = Some(now);
            let owned = self.entries.iter().filter(|(_, entry)| matches!(entry.state(), State::Owned { .. }));
            self.giving.queue = owned.map(|(key, _)| key.clone()).collect();
        }
        if self.giving.begun {
            self.start_moving(drain, now);
        }
        if is_empty && drain.exit {
            self.leave(now);
        } else if is_empty && !std::mem::replace(&mut self.giving.finished, true) {
            self.actions.push_back(Action::DrainFinished { exit: false });
        }
    }

    /// Lets the next session begin to move, if it is its time. What cannot be handed off is not closed: without the store,
    /// or without a node to take it, it stays.
    fn start_moving(&mut self, drain: Drain, now: Instant) {
        let has_place = drain.exit || !self.others.ready().is_empty();
        if !has_place || !self.life.is_fresh() {
            return;
        }
        let spacing = Duration::from_secs(1) / self.settings.handoffs_per_second.max(1);
        while self.giving.moving.len() < self.settings.moving_max && !self.giving.queue.is_empty() {
            let start = self.giving.next_start.unwrap_or(now);
            if now < start {
                self.giving.due = Some(start);
                return;
            }
            let Some(key) = self.giving.queue.pop_front() else {
                return;
            };
            let epoch = match self.entries.get(&key).map(|entry| (entry.state(), entry.due)) {
                // A session that was taken back has its turn when it is due.
                Some((State::Owned { epoch }, None)) => *epoch,
                _ => continue,
            };
            self.entries.turn(&key, State::Moving { epoch, reason: drain.reason });
            self.giving.next_start = Some(now + spacing);
            self.giving.moving.insert(key.clone());
            self.actions.push_back(Action::StartMoving { key, epoch });
        }
    }

    /// The session is exported. Whether it still is to move.
    pub(super) fn hand_off(&mut self, key: &Key, epoch: Epoch, estate: Estate, now: Instant) -> bool {
        let reason = match self.entries.state(key) {
            Some(State::Moving { epoch: own, reason }) if *own == epoch => *reason,
            _ => return false,
        };
        let (to, since, withdrawn) = (None, now, false);
        self.entries.turn(key, State::HandingOff { epoch, reason, to, estate, since, withdrawn });
        self.give_to_best(key, now);
        true
    }

    /// Chooses who gets the session, and gives it. With nobody to get it, it goes on here: no command is under way for it, so
    /// that no other can have it.
    pub(super) fn give_to_best(&mut self, key: &Key, now: Instant) {
        let ready = self.others.ready();
        let best = if ready.is_empty() {
            None
        } else {
            let best = self.ranking.best(key, &ready);
            ready.get(best).or(ready.first()).map(|lease| lease.id.clone())
        };
        let target: Option<LeaseId> = best.filter(|_| self.giving.drain.is_some());
        if target.is_none() && !self.giving.exits() {
            return self.take_back(key, None, now);
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.choose(target);
            self.send(key);
        }
    }

    /// The session goes on here, from its estate, since `kept` if that is another epoch. If it still is to be given away, its
    /// turn comes again when another node is ready.
    fn take_back(&mut self, key: &Key, kept: Option<Epoch>, now: Instant) {
        let estate = self.entries.get_mut(key).and_then(Entry::take_estate);
        if let Some((epoch, estate, reason)) = estate {
            self.begin(key, kept.unwrap_or(epoch), Origin::Estate(estate), Event::TakenBack(reason), now);
        }
    }

    /// The store has failed to give the session away, and says that it cannot do so any more. It will be asked again later.
    pub(super) fn kept(&mut self, key: &Key, epoch: Epoch, now: Instant) {
        self.take_back(key, Some(epoch), now);
        // Nobody knows how much time a node has that is to end.
        let pause = if self.giving.exits() { self.settings.handoff_time_max / 2 } else { self.settings.handoff_pause };
        self.look_again(key, now + pause);
    }

    /// Who would get each session if the node were drained at this moment; `None` where no other node is ready.
    pub fn plan_drain(&mut self) -> Vec<(Key, Option<NodeId>)> {
        let ready = self.others.ready();
        let sessions = self.entries.iter().filter(|(_, entry)| entry.state().is_session());
        let mut plan = Vec::new();
        for (key, _) in sessions {
            let best = (!ready.is_empty()).then(|| self.ranking.best(key, &ready));
            let target = best.and_then(|best| ready.get(best).or(ready.first()));
            plan.push((key.clone(), target.map(|lease| lease.id.node.clone())));
        }
        plan
    }

    /// The chosen node is over.
    pub(super) fn target_ended(&mut self, key: &Key, now: Instant) {
        if let Some(State::HandingOff { to: Some(to), .. }) = self.entries.state(key) {
            self.others.mark_ended(&to.clone(), LeaseEnd::Unknown, now);
            self.count(Event::HandoffRetried);
            self.give_to_best(key, now);
        }
    }

    /// The key has its next owner: whoever waits goes there.
    pub(super) fn handed_off(&mut self, key: &Key, epoch: Epoch, now: Instant) {
        let Some(State::HandingOff { to, reason, .. }) = self.entries.state(key) else {
            return;
        };
        let (to, reason) = (to.clone(), *reason);
        let Some(owner) = to else {
            self.parked(key, reason);
            self.settle(key, |_| Some(unavailable(Unavailable::Moving)));
            self.entries.remove(key);
            return;
        };
        self.count(Event::HandedOff(reason));
        let address = self.others.lease(&owner).map(|lease| lease.address);
        let address = if owner == self.lease { Some(self.address) } else { address };
        let key = key.clone();
        if address.is_none() {
            self.step(&key, State::Looking);
            return;
        }
        let record =
            Record { key: key.clone(), owner, epoch, owner_ended: None, owner_address: address, has_estate: true };
        self.found(&key, record, now);
    }

    /// The session lies in the store for whoever comes after this node.
    pub(super) fn parked(&mut self, key: &Key, reason: HandoffReason) {
        self.count(Event::Parked(reason));
        self.giving.parked.insert(key.clone());
    }
}
