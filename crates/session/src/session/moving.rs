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

/// How long no transport may bring anything until all are cut: a peer that is there and has something under way brings
/// it sooner, however slow its way is.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// A session on its way to another owner.
#[derive(Debug, Clone)]
pub(super) struct Moving {
    /// When the guests are sent away. `None` once they have been.
    guests_at: Option<Instant>,
    begun_at: Instant,
    /// When the transports that are left are cut, unless one of them brings something before.
    silent_at: Instant,
    /// When they are cut whatever they bring.
    cut_at: Instant,
    /// Whether [`Action::MoveReady`] has been said.
    is_ready: bool,
    is_cut: bool,
    /// What had to be cut because the time was over.
    cut_short: Option<(usize, CutReason)>,
}

/// Why transports of a session that moves were cut before their clients had closed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutReason {
    /// Nothing came for some seconds.
    Silent,
    /// They still brought something when the time of the move was over.
    Time,
}

impl CutReason {
    /// The name of the reason in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Time => "time",
        }
    }
}

impl Moving {
    fn new(silent_at: Instant, now: Instant) -> Self {
        let cut_short = None;
        Self { guests_at: None, begun_at: now, silent_at, cut_at: now, is_ready: false, is_cut: false, cut_short }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let cut_at = self.silent_at.min(self.cut_at);
        if self.is_ready { None } else { Some(self.guests_at.map_or(cut_at, |at| at.min(cut_at))) }
    }
}

impl Session {
    /// Begins to close all transports ([`CloseReason::Moved`]); [`Action::MoveReady`] says when the last one is
    /// detached, or was cut: `within` is over, or nothing has come for some seconds ([`Self::heard`]). From here on nobody is
    /// let in ([`crate::Refusal::Moving`]), but the session goes on relaying, and gives nobody up.
    pub fn begin_move(&mut self, within: Duration, now: Instant) {
        if self.moving.is_some() {
            return;
        }
        let (silent_at, cut_at) = (now + SILENT_AFTER, now + within);
        self.moving = Some(Moving { guests_at: Some(now + HOST_FIRST), cut_at, ..Moving::new(silent_at, now) });
        self.send_away(|member| member.host);
        self.go_on_moving(now);
    }

    /// There is no time left after `by`: transports that are not closed by then are cut.
    pub fn hasten_move(&mut self, by: Instant) {
        if let Some(moving) = &mut self.moving {
            moving.cut_at = moving.cut_at.min(by);
        }
    }

    /// A transport has brought something, be it a part of a message: what is under way is waited for.
    pub fn heard(&mut self, now: Instant) {
        if let Some(moving) = &mut self.moving {
            moving.silent_at = now + SILENT_AFTER;
        }
    }

    /// When the session's transports are cut at the latest, if it moves.
    #[must_use]
    pub fn move_ends(&self) -> Option<Instant> {
        self.moving.as_ref().map(|moving| moving.cut_at)
    }

    /// How many transports were cut before their clients had closed them, and why. What they had under way is lost.
    #[must_use]
    pub fn cut_short(&self) -> Option<(usize, CutReason)> {
        self.moving.as_ref().and_then(|moving| moving.cut_short)
    }

    /// The session stays after all. Peers whose transports were closed are within their grace period.
    pub fn cancel_move(&mut self, now: Instant) {
        if let Some(moving) = self.moving.take()
            && !moving.is_ready
        {
            self.lengthen_graces(moving.begun_at, now);
        }
    }

    /// Who is away could not come back while the session moved: that time does not count.
    fn lengthen_graces(&mut self, since: Instant, now: Instant) {
        let (moved_for, most) = (now.saturating_duration_since(since), now + self.limits.grace);
        for slot in self.peers.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
            if let Some(at) = self.peers.member_mut(slot).and_then(|member| member.given_up_at.as_mut()) {
                *at = (*at + moved_for).min(most);
            }
        }
        self.find_next_given_up();
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
        let transports = self.transports;
        if let Some(moving) = &mut self.moving
            && !moving.is_cut
            && transports > 0
            && (moving.cut_at <= now || moving.silent_at <= now)
        {
            let reason = if moving.silent_at <= now { CutReason::Silent } else { CutReason::Time };
            moving.cut_short = Some((transports, reason));
            return self.cut(now);
        }
        if self.transports == 0
            && let Some(moving) = &mut self.moving
        {
            moving.is_ready = true;
            let begun_at = moving.begun_at;
            self.lengthen_graces(begun_at, now);
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
        let moving = self.moving.get_or_insert_with(|| Moving::new(now, now));
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
