//! A session gives up its transports, so that another owner can have it.
//!
//! The transports are closed at their own level and go on being read until each client has closed too, so that
//! everything that the peers had sent is relayed. What could not be delivered stays in the outboxes and moves along. The
//! host is sent away first, its guests when it has gone: whoever comes back first finds the session, but a host that is
//! there lets joiners in.

use std::time::{Duration, Instant};

use super::Session;
use crate::action::{Action, CloseReason};
use crate::peers::{Member, PeerSlot};

/// How long the guests wait for the host to go. A client that reads answers within a round trip.
const HOST_FIRST: Duration = Duration::from_millis(250);

/// How long all transports together may take to close; then they are cut. As long as one WebSocket may take.
const CUT_AFTER: Duration = Duration::from_secs(5);

/// A session on its way to another owner.
#[derive(Debug, Clone)]
pub(super) struct Moving {
    /// When the guests are sent away. `None` once they have been.
    guests_at: Option<Instant>,
    /// When the transports that are left are cut.
    cut_at: Instant,
    /// Whether [`Action::MoveReady`] has been said.
    is_ready: bool,
    is_cut: bool,
}

impl Moving {
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_ready { None } else { Some(self.guests_at.unwrap_or(self.cut_at)) }
    }
}

impl Session {
    /// Begins to close all transports ([`CloseReason::Moved`]); [`Action::MoveReady`] says when the last one is
    /// detached, or was cut for want of time. From here on nobody is let in ([`crate::Refusal::Moving`]), but the session
    /// goes on relaying.
    pub fn begin_move(&mut self, now: Instant) {
        if self.moving.is_some() {
            return;
        }
        self.moving =
            Some(Moving { guests_at: Some(now + HOST_FIRST), cut_at: now + CUT_AFTER, is_ready: false, is_cut: false });
        self.send_away(|member| member.host);
        self.go_on_moving(now);
    }

    /// The session stays after all. Peers whose transports were closed are within their grace period.
    pub fn cancel_move(&mut self) {
        self.moving = None;
    }

    /// Whether the session has begun to move.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Whether the session's transports were cut. What they still bring does not count.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.is_cut)
    }

    /// Whether the transport of this peer is to be closed because the session moves.
    pub(super) fn is_sent_away(&self, member: &Member) -> bool {
        self.moving.as_ref().is_some_and(|moving| member.host || moving.guests_at.is_none())
    }

    /// Does what is due of a move.
    pub(super) fn go_on_moving(&mut self, now: Instant) {
        let Some(moving) = &self.moving else { return };
        if moving.is_ready {
            return;
        }
        let host_is_there = self.peers.iter().any(|(_, member)| member.host && member.attachment.is_some());
        if moving.guests_at.is_some_and(|at| at <= now || !host_is_there) {
            self.send_guests_away();
        }
        if self.moving.as_ref().is_some_and(|moving| moving.cut_at <= now && !moving.is_cut) {
            return self.cut(now);
        }
        if self.transports == 0
            && let Some(moving) = &mut self.moving
        {
            moving.is_ready = true;
            self.actions.push_back(Action::MoveReady);
        }
    }

    fn send_guests_away(&mut self) {
        if let Some(moving) = &mut self.moving {
            moving.guests_at = None;
        }
        self.send_away(|member| !member.host);
    }

    fn send_away(&mut self, is_meant: impl Fn(&Member) -> bool) {
        let meant = self.peers.iter().filter(|(_, member)| member.attachment.is_some() && is_meant(member));
        let reason = CloseReason::Moved;
        self.actions.extend(meant.map(|(peer, _)| Action::ClosePeer { peer, reason }));
    }

    /// Detaches every transport at once; what they still bring does not count. The session moves from here on.
    pub fn cut(&mut self, now: Instant) {
        let moving = self.moving.get_or_insert(Moving { guests_at: None, cut_at: now, is_ready: false, is_cut: true });
        moving.is_cut = true;
        self.detach_all(now);
        self.go_on_moving(now);
    }

    /// Detaches every transport. What a transport says of itself afterwards changes nothing.
    pub(super) fn detach_all(&mut self, now: Instant) {
        let attached: Vec<(PeerSlot, _)> =
            self.peers.iter().filter_map(|(slot, member)| Some((slot, member.attachment?))).collect();
        for (peer, attachment) in attached {
            self.begin_grace(peer, attachment, now);
            self.actions.push_back(Action::Displaced { peer, attachment });
        }
        self.transports = 0;
    }
}
