//! Time goes by.

use std::time::Instant;

use super::moving::Moving;
use super::{Session, State};
use crate::action::{CloseReason, EndReason};
use crate::peers::PeerSlot;

impl Session {
    /// When [`Self::handle_timeout`] is to be called next. It may change with every call that changes the session.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let host = match self.state {
            State::AwaitingHost { until } => Some(until),
            State::Live | State::Ended => None,
        };
        let moving = self.moving.as_ref().and_then(Moving::deadline);
        let given_up = self.next_given_up.filter(|_| !self.is_moving());
        [host, given_up, self.requests.next_deadline(), self.joins.next_deadline(), moving].into_iter().flatten().min()
    }

    /// Does what is due at `now`. Calling it early or twice does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::AwaitingHost { until } = self.state
            && until <= now
        {
            return self.end(EndReason::HostNeverCame, now);
        }
        self.fail_expired_requests(now);
        self.expire_joins(now);
        // Who is away cannot come back while the session moves.
        if !self.is_moving() && self.next_given_up.is_some_and(|at| at <= now) {
            self.give_up_the_absent(now);
        }
        self.settle(now);
        self.go_on_moving(now);
    }

    /// Gives whoever is away a whole grace period from `now` on, since nobody could come back until then.
    pub fn renew_graces(&mut self, now: Instant) {
        let given_up_at = now + self.limits.grace;
        for slot in self.peers.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
            if let Some(at) = self.peers.member_mut(slot).and_then(|member| member.given_up_at.as_mut()) {
                *at = given_up_at;
            }
        }
        self.find_next_given_up();
    }

    /// The host came first, so it is first in the table: when it is gone, its guests hear `room/closed` and nothing of
    /// each other.
    fn give_up_the_absent(&mut self, now: Instant) {
        let due: Vec<PeerSlot> = self
            .peers
            .iter()
            .filter(|(_, member)| member.given_up_at.is_some_and(|at| at <= now))
            .map(|(slot, _)| slot)
            .collect();
        for slot in due {
            if self.peers.present_member(slot).is_some() {
                self.remove(slot, CloseReason::Gone, now);
            } else {
                self.peers.remove(slot);
            }
        }
        self.find_next_given_up();
        self.finish_if_empty();
    }
}
