//! The leases of other nodes, as this one sees them: silent, probed, ended, reaped.
//!
//! Silence is measured on the own clock, from the moment when a beat was first seen to the moment when a later heartbeat of
//! one's own, whose answer shows the same beat, was *sent*. A node that was stopped itself calls nobody silent for that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ctedge_wire::NodeStatus;

use super::{Ownership, Purpose};
use crate::action::Action;
use crate::command::{Command, Outcome, StoreFailure};
use crate::event::Event;
use crate::id::LeaseId;
use crate::record::{Lease, LeaseEnd};

/// All leases that the last heartbeat told of, the own one left out.
#[derive(Debug, Default)]
pub(super) struct Others {
    leases: BTreeMap<LeaseId, Seen>,
    /// Whether a lease is being reaped. One after the other is enough.
    reaping: bool,
}

/// Another lease.
#[derive(Debug)]
struct Seen {
    lease: Lease,
    /// When this beat was first seen.
    beat_at: Instant,
    /// Whether another beat was seen before.
    beats: bool,
    /// When the lease was first seen ended.
    ended_at: Option<Instant>,
    silence: Silence,
}

/// What is known of a lease that may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// It beats.
    No,
    /// It is silent and is being probed since then.
    Probing(Instant),
    /// It is silent, but its node answered the last probe.
    Answered,
    /// It answered no probe, or listens no more, and is being ended.
    Ending,
}

impl Others {
    /// The lease, if the last heartbeat told of it.
    pub(super) fn lease(&self, id: &LeaseId) -> Option<&Lease> {
        self.leases.get(id).map(|seen| &seen.lease)
    }

    /// The leases that a session may be handed to.
    pub(super) fn ready(&self) -> Vec<&Lease> {
        self.beating().filter(|lease| lease.status == NodeStatus::Ready).collect()
    }

    /// The leases that beat.
    pub(super) fn beating(&self) -> impl Iterator<Item = &Lease> {
        let beats = |seen: &&Seen| seen.lease.ended.is_none() && seen.silence == Silence::No;
        self.leases.values().filter(beats).map(|seen| &seen.lease)
    }

    /// The lease of a living node that has `address` as well, if there is one.
    pub(super) fn at_address(&self, address: SocketAddr) -> Option<&Lease> {
        let at_it = |seen: &&Seen| seen.lease.address == address && seen.lease.ended.is_none() && seen.beats;
        self.leases.values().find(at_it).map(|seen| &seen.lease)
    }

    /// The leases that ended because they were silent, as long as they are not reaped.
    pub(super) fn ended_by_silence(&self) -> impl Iterator<Item = &LeaseId> {
        self.leases.iter().filter(|(_, seen)| seen.lease.ended == Some(LeaseEnd::Silent)).map(|(id, _)| id)
    }

    /// Whether a probe is under way.
    pub(super) fn is_probing(&self) -> bool {
        self.leases.values().any(|seen| matches!(seen.silence, Silence::Probing(_)))
    }

    /// The store says that the lease is over.
    pub(super) fn mark_ended(&mut self, id: &LeaseId, why: LeaseEnd, now: Instant) {
        if let Some(seen) = self.leases.get_mut(id) {
            seen.lease.ended.get_or_insert(why);
            seen.silence = Silence::No;
            seen.ended_at.get_or_insert(now);
        }
    }

    /// The store was away. Who looked for a session of an ended lease meanwhile did not find it, and is given all of the time
    /// again that there is before it is deleted.
    pub(super) fn wait_anew(&mut self, now: Instant) {
        for seen in self.leases.values_mut().filter(|seen| seen.ended_at.is_some()) {
            seen.ended_at = Some(now);
        }
    }

    /// The answers to what is under way will not be heard.
    pub(super) fn forget_commands(&mut self) {
        self.reaping = false;
        for seen in self.leases.values_mut().filter(|seen| seen.silence == Silence::Ending) {
            seen.silence = Silence::No;
        }
    }
}

impl Seen {
    fn new(lease: Lease, now: Instant) -> Self {
        let ended_at = lease.ended.map(|_| now);
        Self { lease, beat_at: now, beats: false, ended_at, silence: Silence::No }
    }

    fn update(&mut self, lease: Lease, now: Instant) {
        if lease.beat != self.lease.beat {
            (self.beat_at, self.beats, self.silence) = (now, true, Silence::No);
        }
        // What was true when a beat was executed may be heard after the answer to what ended the lease since. It is
        // over for ever.
        let ended = lease.ended.or(self.lease.ended);
        if ended.is_some() {
            self.ended_at.get_or_insert(now);
        }
        self.lease = Lease { ended, ..lease };
    }
}

impl Ownership {
    /// Takes what a heartbeat that was sent at `sent` told of all leases.
    pub(super) fn observe(&mut self, leases: Vec<Lease>, sent: Instant, now: Instant) {
        let mut before = std::mem::take(&mut self.others.leases);
        let mut any_ended = false;
        for lease in leases.into_iter().filter(|lease| lease.id != self.lease) {
            let id = lease.id.clone();
            let seen = match before.remove(&id) {
                Some(mut seen) => {
                    any_ended |= lease.ended.is_some() && seen.lease.ended.is_none();
                    seen.update(lease, now);
                    seen
                }
                None => Seen::new(lease, now),
            };
            self.others.leases.insert(id, seen);
        }
        if any_ended {
            self.look_for_awaited();
        }
        self.end_former(sent);
        self.probe_silent(sent, now);
        self.reap(now);
    }

    /// A lease at this node's address that does not beat is that of a process that is gone: nobody has to wait until it counts
    /// as silent. One that does beat is that of a living node with the same address, by a mistake of the settings. It is not
    /// fought, it is a lease like any other: each of the two would end the other's for ever.
    fn end_former(&mut self, sent: Instant) {
        // Its next beat would have come by then, if its process lived.
        let gone_after = 2 * self.settings.beat_every;
        let is_former = |seen: &Seen| {
            let is_gone = !seen.beats && sent.saturating_duration_since(seen.beat_at) >= gone_after;
            seen.lease.address == self.address && seen.lease.ended.is_none() && is_gone
        };
        let former =
            self.others.leases.iter_mut().filter(|(_, seen)| is_former(seen) && seen.silence != Silence::Ending);
        let mut ends = Vec::new();
        for (id, seen) in former {
            seen.silence = Silence::Ending;
            ends.push((id.clone(), seen.lease.beat));
        }
        for (lease, beat) in ends {
            let end = Command::EndLease { lease: lease.clone(), beat: Some(beat), why: LeaseEnd::Replaced };
            self.command(Purpose::End(lease, LeaseEnd::Replaced), end);
        }
    }

    fn probe_silent(&mut self, sent: Instant, now: Instant) {
        for (id, seen) in &mut self.others.leases {
            let rests = matches!(seen.silence, Silence::No | Silence::Answered);
            let is_silent = sent.saturating_duration_since(seen.beat_at) >= self.settings.lost_after;
            if seen.lease.ended.is_none() && rests && is_silent {
                if seen.silence == Silence::No {
                    // Whoever answers is counted once for each time that it falls silent.
                    self.actions.push_back(Action::Count(Event::LeaseSilent));
                }
                seen.silence = Silence::Probing(now);
                self.actions.push_back(Action::Probe(id.clone(), seen.lease.address));
            }
        }
    }

    /// A probe has ended. An alive node keeps its lease: it serves its sessions, and only lost the store. That a probe had no
    /// answer means nothing if this node itself did not run: the answer may have come meanwhile.
    pub(super) fn probed(&mut self, id: &LeaseId, alive: bool) {
        let Some(seen) = self.others.leases.get_mut(id) else {
            return;
        };
        let Silence::Probing(since) = seen.silence else {
            return;
        };
        if alive || self.life.was_away_since(since) {
            seen.silence = if alive { Silence::Answered } else { Silence::No };
            return;
        }
        seen.silence = Silence::Ending;
        let (lease, beat, why) = (id.clone(), Some(seen.lease.beat), LeaseEnd::Silent);
        self.command(Purpose::End(id.clone(), why), Command::EndLease { lease, beat, why });
    }

    /// The store answered to the ending of a lease.
    pub(super) fn ended(&mut self, id: &LeaseId, why: LeaseEnd, answer: Result<Outcome, StoreFailure>, now: Instant) {
        if answer == Ok(Outcome::Ended) {
            self.others.mark_ended(id, why, now);
            let was_former = why == LeaseEnd::Replaced;
            self.count(if was_former { Event::EndedFormerLease } else { Event::EndedSilentLease });
            self.look_for_awaited();
        } else if let Some(seen) = self.others.leases.get_mut(id) {
            // It beats again, or nobody knows: the next heartbeat will tell.
            seen.silence = Silence::No;
        }
    }

    /// Deletes what a lease left behind that ended long ago.
    fn reap(&mut self, now: Instant) {
        let is_due =
            |seen: &Seen| seen.ended_at.is_some_and(|at| now.saturating_duration_since(at) >= self.settings.reap_after);
        if self.others.reaping {
            return;
        }
        if let Some(lease) = self.others.leases.iter().find(|(_, seen)| is_due(seen)).map(|(id, _)| id.clone()) {
            self.others.reaping = true;
            self.command(Purpose::Reap(lease.clone()), Command::Reap { lease });
        }
    }

    /// The store answered to a reaping.
    pub(super) fn reaped(&mut self, id: &LeaseId, answer: Result<Outcome, StoreFailure>) {
        self.others.reaping = false;
        let Ok(Outcome::Reaped { keys, all }) = answer else {
            return;
        };
        if all {
            self.others.leases.remove(id);
        }
        if !keys.is_empty() {
            self.actions.push_back(Action::Reaped(keys));
        }
    }
}
