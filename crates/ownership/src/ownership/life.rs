//! The own lease: registered, renewed by heartbeats, found over, left. And the fence that follows from it.

use std::time::{Duration, Instant};

use super::{Ownership, Purpose};
use crate::action::{Action, Fence, LetGo, LetGoReason};
use crate::ask::Unavailable;
use crate::command::{Command, Outcome, StoreFailure};
use crate::event::Event;
use crate::record::LeaseEnd;
use crate::settings::OwnershipSettings;

/// The own lease, as far as the node knows.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) phase: Phase,
    /// Whether an attempt to register or to beat is under way.
    attempting: bool,
    /// When the next attempt is due.
    next_attempt: Instant,
    /// When the last successful attempt *began*: at that time the lease lived for certain.
    proven: Option<Instant>,
    /// When the process last went on after it had done nothing for long enough to miss a probe.
    returned: Option<Instant>,
    last_tick: Instant,
    pub(super) fence: Fence,
}

/// Where the own lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The store has not confirmed it yet.
    Registering,
    /// It lives, or did when last heard of.
    Living,
    /// It is over, and the node lets go of what it had.
    LettingGo,
    /// The node ends it itself, as its last command.
    Leaving,
    /// The node has left.
    Gone,
}

impl Life {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Registering,
            attempting: false,
            next_attempt: now,
            proven: None,
            returned: None,
            last_tick: now,
            fence: Fence::Closed,
        }
    }

    pub(super) fn is_living(&self) -> bool {
        self.phase == Phase::Living
    }

    /// Whether the store confirmed the lease lately.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_living() && matches!(self.fence, Fence::OpenUntil(_))
    }

    pub(super) fn due(&self, settings: &OwnershipSettings) -> Option<Instant> {
        if !matches!(self.phase, Phase::Registering | Phase::Living) {
            return None;
        }
        let attempt = (!self.attempting).then_some(self.next_attempt);
        let overdue = self.proven.map(|proven| (proven + 2 * settings.beat_every).max(self.next_tick(settings)));
        let closing = self.proven.map(|proven| proven + settings.lost_after).filter(|at| *at > self.last_tick);
        [attempt, overdue, closing].into_iter().flatten().min()
    }

    /// When to make sure again that the process runs.
    pub(super) fn next_tick(&self, settings: &OwnershipSettings) -> Instant {
        self.last_tick + rest(settings)
    }

    /// Whether the process did nothing for a while at some time since then.
    pub(super) fn was_away_since(&self, since: Instant) -> bool {
        self.returned.is_some_and(|returned| returned > since)
    }

    fn fence_at(&self, settings: &OwnershipSettings, now: Instant) -> Fence {
        let Some(proven) = self.proven.filter(|_| self.is_living()) else {
            return Fence::Closed;
        };
        if now < proven + settings.lost_after {
            Fence::OpenUntil(proven + settings.lost_after)
        } else if !self.was_away(settings, proven) {
            // An attempt has failed, or is under way for so long that it says as much.
            Fence::CutOffUntil(self.last_tick + away_after(settings))
        } else {
            Fence::Closed
        }
    }

    /// Whether the lease may have been ended while the process did nothing: it could be found silent by the time at which the
    /// process went on. An answer that was waiting for the process proves no more than what was true when it was asked for.
    fn was_away(&self, settings: &OwnershipSettings, proven: Instant) -> bool {
        self.returned.is_some_and(|returned| returned >= proven + settings.lost_after)
    }
}

/// A process that did nothing for so long may have missed a whole probe, its answer's way included.
fn away_after(settings: &OwnershipSettings) -> Duration {
    settings.probe_timeout / 2
}

/// How often a node whose beats fail, or that probes another, makes sure that it was not away.
fn rest(settings: &OwnershipSettings) -> Duration {
    away_after(settings) / 2
}

impl Ownership {
    /// Notes that the process runs at this time.
    pub(super) fn tick(&mut self, now: Instant) {
        let life = &mut self.life;
        if now.saturating_duration_since(life.last_tick) >= away_after(&self.settings) {
            life.returned = Some(now);
        }
        life.last_tick = life.last_tick.max(now);
        self.refence(now);
    }

    /// Registers or beats, if it is time.
    pub(super) fn live(&mut self, now: Instant) {
        let life = &mut self.life;
        let beats = matches!(life.phase, Phase::Registering | Phase::Living);
        if !beats || life.attempting || now < life.next_attempt {
            return;
        }
        (life.attempting, life.next_attempt) = (true, now + self.settings.beat_every);
        let lease = self.lease.clone();
        let command = match life.phase {
            Phase::Registering => Command::Register { lease, address: self.address, pid: self.pid },
            _ => Command::Beat { lease, status: self.giving.status, report: self.report.clone() },
        };
        self.command(Purpose::Live(now), command);
    }

    /// An attempt that began at `sent` has ended.
    pub(super) fn lived(&mut self, sent: Instant, answer: Result<Outcome, StoreFailure>, now: Instant) {
        let life = &mut self.life;
        life.attempting = false;
        let Ok(outcome) = answer else {
            return;
        };
        let before = life.proven.replace(sent);
        if now >= sent + self.settings.lost_after {
            // The answer is as old as what it proves: ask again at once.
            life.next_attempt = now;
        }
        match outcome {
            Outcome::Registered => {
                life.phase = Phase::Living;
                life.next_attempt = now;
            }
            Outcome::Beaten { leases, estates } => {
                self.refence(now);
                if before.is_some_and(|before| sent >= before + self.settings.lost_after) {
                    self.others.wait_anew(now);
                }
                self.observe(leases, sent, now);
                self.adopt_estates(estates);
            }
            _ => {}
        }
    }

    /// Says so when the fence has changed, and answers who waited for it.
    pub(super) fn refence(&mut self, now: Instant) {
        let fence = self.life.fence_at(&self.settings, now);
        if fence == self.life.fence {
            return;
        }
        let was_cut_off = matches!(self.life.fence, Fence::CutOffUntil(_));
        self.life.fence = fence;
        self.actions.push_back(Action::Fence(fence));
        if !was_cut_off && matches!(fence, Fence::CutOffUntil(_)) {
            self.count(Event::CutOff);
        }
        if fence.is_open(now) {
            self.serve_held(now);
        }
    }

    /// The store says that the lease is over: everything the node had may be another's.
    pub(super) fn lease_lost(&mut self, now: Instant) {
        if !matches!(self.life.phase, Phase::Registering | Phase::Living) {
            return;
        }
        self.count(Event::LeaseLost);
        self.life.phase = Phase::LettingGo;
        self.refence(now);
        let sessions = self.forget_everything();
        for _ in 0..sessions {
            self.count(Event::Fenced(LetGoReason::LeaseEnded));
        }
        self.actions.push_back(Action::LetGo { which: LetGo::All, why: LetGoReason::LeaseEnded });
        if self.giving.exits() {
            self.life.phase = Phase::Gone;
            self.actions.push_back(Action::DrainFinished { exit: true });
        } else {
            self.actions.push_back(Action::RegisterAnew);
        }
    }

    /// Forgets all keys and commands. Whoever waits is sent away. Returns how many sessions there were.
    fn forget_everything(&mut self) -> usize {
        let sessions = self.sessions();
        let waiting: Vec<_> = self.tickets.keys().copied().collect();
        for ticket in waiting {
            self.refuse(ticket, Unavailable::NoLease);
        }
        self.entries.clear();
        self.timers.clear();
        self.commands.clear();
        self.others.forget_commands();
        self.giving.forget_keys();
        sessions
    }

    /// Ends the own lease, as the last thing that this node asks of the store.
    pub(super) fn leave(&mut self, now: Instant) {
        self.life.phase = Phase::Leaving;
        self.refence(now);
        self.forget_everything();
        let lease = self.lease.clone();
        self.command(Purpose::Leave, Command::EndLease { lease, beat: None, why: LeaseEnd::Left });
    }

    /// Whatever the store said: if it was not reached, others will find the lease silent.
    pub(super) fn left(&mut self) {
        self.life.phase = Phase::Gone;
        self.actions.push_back(Action::DrainFinished { exit: true });
    }
}
