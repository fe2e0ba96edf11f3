//! Whether anybody reaches this node.
//!
//! A node whose listener is dead, or that has no descriptors left, beats and owns its sessions, and nobody who comes for them
//! gets in. It is the only one that can find that out without taking the rights of a living node from outside: it asks its
//! own listener now and then, and when that is silent, again and again, it gives up what it has and ends.

use std::time::{Duration, Instant};

use super::Ownership;
use crate::action::Action;
use crate::drain::{Drain, HandoffReason};
use crate::event::Event;

/// How many questions in a row go without an answer before the node counts as deaf. They are as far apart as a lease lives
/// without a beat, so that no moment of load ends a node, and none in which its machine stood still.
const UNHEARD_MAX: u32 = 3;

/// What a node knows of its own listener.
#[derive(Debug)]
pub(super) struct Hearing {
    is_asking: bool,
    next: Instant,
    unheard: u32,
}

impl Hearing {
    pub(super) fn new(first: Instant) -> Self {
        Self { is_asking: false, next: first, unheard: 0 }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_asking).then_some(self.next)
    }
}

impl Ownership {
    /// Asks the own listener, if it is time.
    pub(super) fn listen(&mut self, now: Instant) {
        let hearing = &mut self.hearing;
        if hearing.is_asking || now < hearing.next || !self.life.is_living() {
            return;
        }
        (hearing.is_asking, hearing.next) = (true, now + self.settings.lost_after);
        self.actions.push_back(Action::ProbeOneself);
    }

    /// The own listener has answered, or has not.
    pub(super) fn heard(&mut self, answered: bool, now: Instant) {
        self.hearing.is_asking = false;
        if answered {
            self.hearing.unheard = 0;
            return;
        }
        self.hearing.unheard += 1;
        // Peers that cannot come back must not be given up for it, here or, a moment later, at the next owner.
        self.actions.push_back(Action::RenewGraces);
        if self.hearing.unheard == UNHEARD_MAX {
            self.count(Event::Deaf);
            let (deadline, reason) = (Some(Duration::ZERO), HandoffReason::Deaf);
            self.giving.drain(Drain { deadline, exit: true, reason }, now);
        }
    }
}
