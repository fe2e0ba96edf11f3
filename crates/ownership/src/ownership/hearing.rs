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

/// How many answers in a row it takes until a node counts as one that was always heard: about a minute. A node that is heard now and
/// then renews no graces for ever.
const HEARD_AGAIN: u32 = 20;

/// What a node knows of its own listener.
#[derive(Debug)]
pub(super) struct Hearing {
    is_asking: bool,
    next: Instant,
    /// In a row.
    unheard: u32,
    /// In a row.
    heard: u32,
    /// How often graces may still be renewed by a node that does not end.
    renewals: u32,
}

impl Hearing {
    pub(super) fn new(first: Instant) -> Self {
        Self { is_asking: false, next: first, unheard: 0, heard: 0, renewals: UNHEARD_MAX }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_asking).then_some(self.next)
    }

    /// Whether graces are to be renewed for a question that was not answered.
    fn renews(&mut self) -> bool {
        let renews = self.renewals > 0;
        self.renewals = self.renewals.saturating_sub(1);
        renews
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
    pub(super) fn heard(&mut self, answered: bool) {
        let hearing = &mut self.hearing;
        hearing.is_asking = false;
        if answered {
            (hearing.unheard, hearing.heard) = (0, hearing.heard.saturating_add(1));
            if hearing.heard >= HEARD_AGAIN {
                hearing.renewals = UNHEARD_MAX;
            }
            return;
        }
        (hearing.unheard, hearing.heard) = (hearing.unheard.saturating_add(1), 0);
        let unheard = hearing.unheard;
        // Peers that cannot come back must not be given up for it, here or, a moment later, at the next owner.
        if hearing.renews() || unheard >= UNHEARD_MAX {
            self.actions.push_back(Action::RenewGraces);
        }
        if unheard == UNHEARD_MAX {
            self.count(Event::Deaf);
            let (deadline, reason) = (Some(Duration::ZERO), HandoffReason::Deaf);
            self.actions.push_back(Action::Drain(Drain { deadline, exit: true, reason }));
        }
    }
}
