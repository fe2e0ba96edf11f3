//! How a key comes to be owned by this node, and how it is owned no more.

use std::collections::BTreeSet;
use std::time::Instant;

use ctedge_wire::Key;

use super::Ownership;
use super::entry::{Entry, State};
use crate::action::{Action, LetGo, LetGoReason, Origin};
use crate::ask::{Verdict, Wants};
use crate::command::Estate;
use crate::event::Event;
use crate::id::Epoch;
use crate::record::{LeaseEnd, Legacy, Record};

impl Ownership {
    /// The key belongs to this node since `epoch`.
    pub(super) fn owned(&mut self, key: &Key, epoch: Epoch, legacy: Legacy, now: Instant) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let after = match entry.state() {
            State::TakingOver { after, .. } => Some(*after),
            State::Reading { after, .. } => *after,
            _ => None,
        };
        match entry.state() {
            // Nobody waits for it any more, so that nobody knows of it.
            State::Creating { .. } if entry.waiting.is_empty() => self.step(key, State::Deleting { epoch }),
            State::Creating { .. } => self.begin(key, epoch, Origin::Created, Event::Created, now),
            _ if legacy.estate.is_some() => self.step(key, State::Adopting { epoch, legacy, after }),
            _ => {
                let event = Event::TakenOver(after.unwrap_or(LeaseEnd::Unknown));
                self.begin(key, epoch, Origin::Takeover(legacy), event, now);
            }
        }
    }

    /// The estate is out of the store, and no other will ever use it.
    pub(super) fn adopted(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let State::Adopting { epoch, after, .. } = *entry.state() else {
            return;
        };
        let Legacy { estate, given, peers, in_flight } = entry.take_legacy();
        let event = after.map_or(Event::EstateAdopted(given), Event::EstateTakenOver);
        let estate = Estate { bytes: estate.unwrap_or_default(), peers, in_flight };
        self.begin(key, epoch, Origin::Estate(estate), event, now);
    }

    pub(super) fn begin(&mut self, key: &Key, epoch: Epoch, origin: Origin, event: Event, now: Instant) {
        let created = origin == Origin::Created;
        self.entries.turn(key, State::Owned { epoch });
        self.actions.push_back(Action::Begin { key: key.clone(), epoch, origin });
        self.count(event);
        self.giving.began(key);
        self.serve(key, epoch, created, now);
    }

    /// Answers all that wait for a key that is served here. If it was created for them, the first that wanted one that did
    /// not exist gets it.
    fn serve(&mut self, key: &Key, epoch: Epoch, mut created: bool, now: Instant) {
        // Whoever is held by the fence finds a session that exists, except for the one that it was created for.
        let is_open = self.life.fence.is_open(now);
        self.settle(key, |waiting| match waiting.wants {
            Wants::New if !std::mem::take(&mut created) => Some(Verdict::Taken),
            _ => is_open.then_some(Verdict::Serve { epoch }),
        });
    }

    /// The fence is open: answers who waited for that.
    pub(super) fn serve_held(&mut self, now: Instant) {
        let keys: BTreeSet<Key> = self.tickets.values().cloned().collect();
        for key in keys {
            if let Some(epoch) = self.epoch(&key) {
                // Of those held, the one that wants a session anew is the one that it was created for.
                self.serve(&key, epoch, true, now);
            }
        }
    }

    /// Takes up what was handed to this node, some at a time.
    pub(super) fn adopt_estates(&mut self, estates: Vec<(Key, Epoch)>) {
        if estates.is_empty() {
            return;
        }
        let is_adopting = |entry: &Entry| matches!(entry.state(), State::Reading { .. } | State::Adopting { .. });
        let adopting = self.entries.iter().filter(|(_, entry)| is_adopting(entry)).count();
        let room = self.settings.moving_max.saturating_sub(adopting);
        let is_new = |(key, _): &(Key, Epoch)| !self.entries.contains(key) && !self.giving.has_parked(key);
        let estates: Vec<_> = estates.into_iter().filter(is_new).take(room).collect();
        for (key, epoch) in estates {
            self.entries.insert(key.clone(), State::Reading { epoch, after: None });
            self.send(&key);
        }
    }

    /// A command found that the record is not what it was taken for: this is what it is.
    pub(super) fn lost(&mut self, key: &Key, record: Record, now: Instant) {
        match self.entries.state(key) {
            // An earlier try to keep it was executed. Whatever else gives a session to a node leaves an estate there.
            Some(State::HandingOff { withdrawn: true, .. }) if record.owner == self.lease && !record.has_estate => {
                return self.kept(key, record.epoch, now);
            }
            Some(State::HandingOff { to, reason, .. }) => {
                let reason = *reason;
                // An earlier try may have been executed though its answer was lost.
                let parked = to.is_none() && record.owner == self.lease;
                let handed = to.as_ref() == Some(&record.owner);
                match (parked, handed) {
                    (true, _) => self.parked(key, reason),
                    (_, true) => self.count(Event::HandedOff(reason)),
                    _ => self.count(Event::Fenced(LetGoReason::EpochPassed)),
                }
            }
            Some(State::Adopting { .. } | State::Deleting { .. }) => {
                self.count(Event::Fenced(LetGoReason::EpochPassed));
            }
            _ => {}
        }
        self.found(key, record, now);
    }

    /// The store says that the session at `epoch` is another's.
    pub(super) fn lose(&mut self, key: &Key, epoch: Epoch) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        match entry.state() {
            State::Owned { epoch: own } | State::Moving { epoch: own, .. } if *own == epoch => {}
            _ => return,
        }
        let is_wanted = !entry.waiting.is_empty();
        let (which, why) = (LetGo::One(key.clone()), LetGoReason::EpochPassed);
        self.actions.push_back(Action::LetGo { which, why });
        self.count(Event::Fenced(LetGoReason::EpochPassed));
        if is_wanted {
            self.step(key, State::Looking);
        } else {
            self.entries.remove(key);
        }
    }

    /// The session in memory is over.
    pub(super) fn end_session(&mut self, key: &Key, epoch: Epoch) {
        match self.entries.state(key) {
            Some(State::Owned { epoch: own } | State::Moving { epoch: own, .. }) if *own == epoch => {}
            _ => return,
        }
        self.step(key, State::Deleting { epoch });
    }
}
