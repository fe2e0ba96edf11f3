//! Who owns a key that somebody asked for. All who ask for one key wait for one answer of the store.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ctedge_wire::{Key, NodeStatus};

use super::entry::{Entry, State, Waiting};
use super::{Ownership, Purpose, Timer};
use crate::action::{Action, CommandId};
use crate::ask::{Ask, Ticket, Unavailable, Verdict, Wants};
use crate::command::{Outcome, StoreFailure};
use crate::event::{Event, RedirectReason};
use crate::id::NodeId;
use crate::record::Record;

impl Ownership {
    pub(super) fn ask(&mut self, ask: Ask, now: Instant) {
        if !self.life.is_living() {
            self.answer(ask.ticket, unavailable(Unavailable::NoLease));
            return;
        }
        let creates = ask.wants == Wants::New;
        let ready = self.giving.status == NodeStatus::Ready;
        match self.entries.get(&ask.key) {
            Some(entry) => match entry.state() {
                State::Owned { .. } if creates => self.answer(ask.ticket, Verdict::Taken),
                State::Owned { epoch } if self.life.fence.is_open(now) => {
                    let epoch = *epoch;
                    self.answer(ask.ticket, Verdict::Serve { epoch });
                }
                _ if entry.failed => self.answer(ask.ticket, unavailable(Unavailable::Store)),
                _ => self.wait(ask, now),
            },
            None if creates && !ready => self.answer(ask.ticket, unavailable(Unavailable::NotReady)),
            // Those who asked and went away do not count among those who wait, but the store is asked all the same.
            None if self.entries.asked() >= self.settings.asks_max => {
                self.answer(ask.ticket, unavailable(Unavailable::TooMany));
            }
            None => {
                let (key, ticket) = (ask.key.clone(), ask.ticket);
                let state = if creates { State::Creating { in_doubt: false } } else { State::Looking };
                self.entries.insert(key.clone(), state);
                self.wait(ask, now);
                if self.tickets.contains_key(&ticket) {
                    self.send(&key);
                } else {
                    self.entries.remove(&key);
                }
            }
        }
    }

    /// Lets the request wait at its key, which has an entry.
    fn wait(&mut self, ask: Ask, now: Instant) {
        let Ask { ticket, key, wants, unreachable } = ask;
        if self.tickets.len() >= self.settings.asks_max {
            self.answer(ticket, unavailable(Unavailable::TooMany));
            return;
        }
        let settings = &self.settings;
        // An owner that nobody can reach is not waited for longer than it takes to find it silent and to end it.
        let patience = if unreachable.is_empty() { settings.ask_wait_max } else { 2 * settings.lost_after };
        let deadline = now + patience;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.waiting.push(Waiting { ticket, wants, unreachable, deadline });
            self.tickets.insert(ticket, key);
            self.timers.insert((deadline, Timer::Ticket(ticket)));
        }
    }

    /// Gives the command that takes the key a step on.
    pub(super) fn send(&mut self, key: &Key) {
        let Some(command) = self.entries.state(key).and_then(|state| state.command(key, &self.lease)) else {
            return;
        };
        let id = self.command(Purpose::Key(key.clone()), command);
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.command, entry.due) = (Some(id), None);
        }
    }

    /// Takes the key to `state`, and on with the command that it needs.
    pub(super) fn step(&mut self, key: &Key, state: State) {
        self.entries.turn(key, state);
        self.send(key);
    }

    /// A command of the key was answered, or was not.
    pub(super) fn stepped(&mut self, key: Key, id: CommandId, answer: Result<Outcome, StoreFailure>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.command == Some(id)) else {
            return;
        };
        entry.command = None;
        entry.failed = answer.is_err();
        match answer {
            Err(failure) => self.without_outcome(&key, failure, now),
            Ok(Outcome::Found(record) | Outcome::Taken(record)) => self.found(&key, record, now),
            Ok(Outcome::Lost(Some(record))) => self.lost(&key, record, now),
            Ok(Outcome::Missing | Outcome::Lost(None)) => self.missing(&key),
            Ok(Outcome::Deleted) => self.deleted(&key),
            Ok(Outcome::Owned { epoch, legacy }) => self.owned(&key, epoch, legacy, now),
            Ok(Outcome::Adopted) => self.adopted(&key, now),
            Ok(Outcome::HandedOff { epoch }) => self.handed_off(&key, epoch, now),
            Ok(Outcome::Kept { epoch }) => self.kept(&key, epoch, now),
            Ok(Outcome::TargetEnded) => self.target_ended(&key, now),
            // These answer other commands.
            Ok(Outcome::Registered | Outcome::Beaten { .. } | Outcome::Ended | Outcome::Beating) => {}
            Ok(Outcome::LeaseEnded | Outcome::Reaped { .. }) => {}
        }
    }

    /// The store gave no answer. What it may have done all the same has to be found out by the same command.
    fn without_outcome(&mut self, key: &Key, failure: StoreFailure, now: Instant) {
        self.settle(key, |_| Some(unavailable(Unavailable::Store)));
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.state().may_be_forgotten() {
            self.entries.remove(key);
            return;
        }
        entry.doubt();
        if failure != StoreFailure::Unreachable {
            entry.withdraw(self.settings.handoff_time_max, now);
        }
        if entry.state().is_moving() {
            self.count(Event::HandoffRetried);
        }
        self.look_again(key, now + self.settings.beat_every);
    }

    pub(super) fn look_again(&mut self, key: &Key, at: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.due = Some(at);
            self.timers.insert((at, Timer::Key(key.clone())));
        }
    }

    /// A key's time has come.
    pub(super) fn look_after(&mut self, key: &Key, at: Instant) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.due == Some(at)) else {
            return;
        };
        entry.due = None;
        match entry.state() {
            State::HandingOff { .. } if !entry.failed => self.give_to_best(key, at),
            State::Owned { .. } => self.giving.began(key),
            _ => self.send(key),
        }
    }

    /// There is a record of the key.
    pub(super) fn found(&mut self, key: &Key, record: Record, now: Instant) {
        let is_mine = record.owner == self.lease;
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        // What this node created has no estate. A record with one was handed to this node: whoever asked for the creation
        // has gone to another node meanwhile, which then had the key.
        if is_mine && !record.has_estate && matches!(entry.state(), State::Creating { in_doubt: true }) {
            self.owned(key, record.epoch, crate::Legacy::default(), now);
            return;
        }
        self.settle(key, |waiting| (waiting.wants == Wants::New).then_some(Verdict::Taken));
        let is_wanted = self.entries.get(key).is_some_and(|entry| !entry.waiting.is_empty());
        if is_mine && self.giving.has_parked(key) {
            self.settle(key, |_| Some(unavailable(Unavailable::Moving)));
            self.entries.remove(key);
        } else if is_mine {
            let after = match self.entries.state(key) {
                // An earlier try was executed though its answer was lost.
                Some(State::TakingOver { after, .. }) => Some(*after),
                _ => None,
            };
            self.step(key, State::Reading { epoch: record.epoch, after });
        } else if !is_wanted {
            self.entries.remove(key);
        } else if let Some(after) = record.owner_ended {
            self.others.mark_ended(&record.owner, after, now);
            self.step(key, State::TakingOver { from: record.epoch, after });
        } else if let Some(address) = record.owner_address {
            self.redirect(key, &record, address, now);
        }
    }

    /// Another lease owns the key. Who could not reach its node waits for its end.
    fn redirect(&mut self, key: &Key, record: &Record, address: SocketAddr, now: Instant) {
        let (owner, epoch) = (&record.owner, record.epoch);
        let self_address = self.address;
        let reason = match self.entries.state(key) {
            Some(State::HandingOff { .. }) => RedirectReason::HandedOff,
            Some(State::TakingOver { .. }) => RedirectReason::Outrun,
            _ => RedirectReason::Elsewhere,
        };
        let mut redirected = 0;
        self.settle(key, |waiting| {
            // Whoever is sent to this node's own address comes back here. The lease of a former process will be ended.
            let is_reachable = address != self_address && !waiting.unreachable.contains(&owner.node);
            redirected += usize::from(is_reachable);
            is_reachable.then(|| Verdict::Redirect { owner: owner.clone(), epoch, address })
        });
        (0..redirected).for_each(|_| self.count(Event::Redirected(reason)));
        match self.entries.get(key) {
            Some(entry) if !entry.waiting.is_empty() => {
                self.entries.turn(key, State::Awaiting { owner: owner.clone() });
                self.look_again(key, now + self.settings.beat_every / 2);
            }
            _ => {
                self.entries.remove(key);
            }
        }
    }

    /// Some lease has ended: it may be the one that somebody waits for.
    pub(super) fn look_for_awaited(&mut self) {
        let is_over = |entry: &Entry| match entry.state() {
            State::Awaiting { owner } => self.others.lease(owner).is_none_or(|lease| lease.ended.is_some()),
            _ => false,
        };
        let over = self.entries.iter().filter(|(_, entry)| entry.command.is_none() && is_over(entry));
        for key in over.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.send(&key);
        }
    }

    /// There is no record of the key.
    pub(super) fn missing(&mut self, key: &Key) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let creates = entry.waiting.iter().any(|waiting| waiting.wants != Wants::Existing);
        if creates && self.giving.status == NodeStatus::Ready {
            self.step(key, State::Creating { in_doubt: false });
            return;
        }
        self.settle(key, |waiting| match waiting.wants {
            Wants::Existing => Some(Verdict::Missing),
            Wants::ExistingOrNew | Wants::New => Some(unavailable(Unavailable::NotReady)),
        });
        self.entries.remove(key);
    }

    /// The record is gone. Whoever came meanwhile may want what another node has begun under the key since.
    fn deleted(&mut self, key: &Key) {
        if self.entries.get(key).is_some_and(|entry| !entry.waiting.is_empty()) {
            self.step(key, State::Looking);
        } else {
            self.entries.remove(key);
        }
    }

    /// Answers those that wait for the key and get a verdict.
    pub(super) fn settle(&mut self, key: &Key, mut verdict: impl FnMut(&Waiting) -> Option<Verdict>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        for waiting in std::mem::take(&mut entry.waiting) {
            match verdict(&waiting) {
                Some(verdict) => {
                    self.tickets.remove(&waiting.ticket);
                    self.timers.remove(&(waiting.deadline, Timer::Ticket(waiting.ticket)));
                    self.actions.push_back(Action::Answer(waiting.ticket, verdict));
                }
                None => entry.waiting.push(waiting),
            }
        }
    }

    /// The nodes that own what somebody waits for here, since a balancer does not reach them.
    pub fn awaited(&self) -> BTreeSet<&NodeId> {
        let mut awaited = BTreeSet::new();
        // Nearly always there is nothing to look through.
        if self.entries.asked() > 0 {
            for (_, entry) in self.entries.iter() {
                match entry.state() {
                    State::Awaiting { owner } if !entry.waiting.is_empty() => drop(awaited.insert(&owner.node)),
                    _ => {}
                }
            }
        }
        awaited
    }

    fn answer(&mut self, ticket: Ticket, verdict: Verdict) {
        self.actions.push_back(Action::Answer(ticket, verdict));
    }

    /// Sends one that waits away.
    pub(super) fn refuse(&mut self, ticket: Ticket, why: Unavailable) {
        self.forget_ticket(ticket);
        self.answer(ticket, unavailable(why));
    }

    pub(super) fn ticket_expired(&mut self, ticket: Ticket) {
        let state = self.tickets.get(&ticket).and_then(|key| self.entries.state(key));
        let why = match state {
            Some(State::Awaiting { .. }) => Unavailable::OwnerUnreachable,
            Some(State::Moving { .. } | State::HandingOff { .. }) => Unavailable::Moving,
            Some(State::Owned { .. }) => Unavailable::NoLease,
            _ => Unavailable::Store,
        };
        self.refuse(ticket, why);
    }

    pub(super) fn forget_ticket(&mut self, ticket: Ticket) {
        let Some(key) = self.tickets.remove(&ticket) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if let Some(index) = entry.waiting.iter().position(|waiting| waiting.ticket == ticket) {
            let waiting = entry.waiting.remove(index);
            self.timers.remove(&(waiting.deadline, Timer::Ticket(ticket)));
        }
        let is_idle = entry.waiting.is_empty() && entry.command.is_none();
        if is_idle && entry.state().may_be_forgotten() {
            self.entries.remove(&key);
        }
    }
}

pub(super) fn unavailable(why: Unavailable) -> Verdict {
    Verdict::Unavailable { retry_after: retry_after(why), why }
}

/// About as long as it takes until the reason may have passed.
fn retry_after(why: Unavailable) -> Duration {
    match why {
        Unavailable::NoLease | Unavailable::Moving | Unavailable::NotReady => Duration::from_secs(1),
        Unavailable::Store | Unavailable::OwnerUnreachable => Duration::from_secs(2),
        Unavailable::TooMany => Duration::from_secs(5),
    }
}
