//! Peers come, return, lose their transport, leave.

use std::time::Instant;

use bytes::Bytes;
use ctedge_protocol::{Handshake, PeerId, RoomClaim, msgpack, server};

use super::{Attached, Session, State};
use crate::action::{Action, AttachmentId, AuditKind, CloseReason, EndReason, Refusal};
use crate::outbox::Outbox;
use crate::peers::{Member, PeerSlot};
use crate::stored::StoredPeer;

impl Session {
    /// Brings the bearer of a verified token into the session, with a transport. `id` is the peer id that belongs to
    /// `claim`.
    ///
    /// The same token with the same public key is the same peer: it gets what it was sent meanwhile, and nobody hears of
    /// it. Its older transport, if it still has one, is displaced. The same token with another public key is a client
    /// that was started anew: it knows nothing of the session, so its former self leaves and it joins.
    ///
    /// Of a host that gets [`Refusal::Ended`] the owner may begin the session anew ([`super::Beginning::revived`]).
    pub fn attach(
        &mut self,
        claim: &RoomClaim,
        id: PeerId,
        handshake: Handshake,
        now: Instant,
    ) -> Result<Attached, Refusal> {
        self.check_claim(claim)?;
        if self.moving.is_some() {
            return Err(Refusal::Moving);
        }
        if let Some(slot) = self.peers.find(|member| member.clock == claim.room_clock && member.may_return()) {
            let member = self.peers.member(slot).ok_or(Refusal::Ended)?;
            if member.user.id != claim.user.id {
                return Err(Refusal::Mismatch);
            }
            if member.handshake.public_key == handshake.public_key {
                return Ok(self.reattach(slot));
            }
            self.remove(slot, CloseReason::Replaced, now);
        }
        match self.state {
            State::Ended => return Err(Refusal::Ended),
            State::AwaitingHost { .. } if !claim.host => return Err(Refusal::HostAbsent),
            _ if self.peers.present() >= self.limits.peers_max => return Err(Refusal::Full),
            _ => {}
        }
        let attached = self.join(claim, id, handshake);
        self.settle(now);
        Ok(attached)
    }

    /// Whether the bearer of a token with this clock takes part already, so that it comes back and does not join.
    #[must_use]
    pub fn has_peer(&self, room_clock: u64) -> bool {
        self.peers.find(|member| member.clock == room_clock && member.closing.is_none()).is_some()
    }

    /// A transport is gone. The peer's grace period begins, unless a newer transport has displaced this one.
    ///
    /// The transport of a peer that is closing should first [`Session::acknowledge`] what its closing handshake has
    /// proven: a peer that has heard everything is forgotten at once, one that may not have heard of the session's end
    /// may return to hear of it.
    pub fn detach(&mut self, peer: PeerSlot, attachment: AttachmentId, now: Instant) {
        self.transports = self.transports.saturating_sub(1);
        self.begin_grace(peer, attachment, now);
        self.go_on_moving(now);
    }

    /// The grace period of a peer that has lost this transport.
    pub(super) fn begin_grace(&mut self, peer: PeerSlot, attachment: AttachmentId, now: Instant) {
        let given_up_at = now + self.limits.grace;
        let Some(member) = self.peers.member_mut(peer).filter(|member| member.attachment == Some(attachment)) else {
            return;
        };
        member.attachment = None;
        member.given_up_at = Some(given_up_at);
        if member.closing.is_some() && (member.outbox.is_empty() || !member.may_return()) {
            self.peers.remove(peer);
        }
        self.find_next_given_up();
        self.finish_if_empty();
    }

    /// A peer leaves. If it is the host, the session ends.
    pub fn leave(&mut self, peer: PeerSlot, now: Instant) {
        self.remove(peer, CloseReason::Left, now);
        self.settle(now);
    }

    /// Something that a peer sent was lost before it came here: the peer goes. If it is the host, the session ends.
    pub fn lose_message_of(&mut self, peer: PeerSlot, now: Instant) {
        self.remove(peer, CloseReason::HeldFull, now);
        self.settle(now);
    }

    fn check_claim(&self, claim: &RoomClaim) -> Result<(), Refusal> {
        if claim.room != self.key {
            return Err(Refusal::WrongSession);
        }
        // A lower clock is of an earlier session under the same key, whose guests this host never let in.
        let fits = if claim.host { claim.room_clock == self.host_clock } else { claim.room_clock > self.host_clock };
        if fits { Ok(()) } else { Err(Refusal::Mismatch) }
    }

    fn reattach(&mut self, slot: PeerSlot) -> Attached {
        let attachment = self.next_attachment();
        if let Some(member) = self.peers.member_mut(slot) {
            member.given_up_at = None;
            if let Some(older) = member.attachment.replace(attachment) {
                self.actions.push_back(Action::Displaced { peer: slot, attachment: older });
            }
        }
        self.find_next_given_up();
        Attached { peer: slot, attachment, returned: true }
    }

    fn join(&mut self, claim: &RoomClaim, id: PeerId, handshake: Handshake) -> Attached {
        let attachment = self.next_attachment();
        let mut origin = Vec::new();
        msgpack::write_str(&mut origin, id.as_str());
        let slot = self.peers.insert(Member {
            id,
            origin: Bytes::from(origin),
            clock: claim.room_clock,
            host: claim.host,
            user: claim.user.clone(),
            handshake,
            is_silent: true,
            outbox: Outbox::new(self.offset_floor, self.limits.outbox_bytes_max),
            attachment: Some(attachment),
            given_up_at: None,
            closing: None,
            wake_waits: false,
            warned: 0,
        });
        self.clock = self.clock.max(claim.room_clock);
        if claim.host {
            self.host = Some(slot);
            self.state = State::Live;
        }
        self.announce(slot, claim.host);
        Attached { peer: slot, attachment, returned: false }
    }

    fn announce(&mut self, slot: PeerSlot, host: bool) {
        self.say_joined(slot);
        self.tell_of_joining(slot);
        self.audit(if host { AuditKind::Created } else { AuditKind::Joined }, slot);
    }

    /// Tells the others of a guest that joined, and tells every peer that joined who it is.
    pub(super) fn tell_of_joining(&mut self, slot: PeerSlot) {
        let Some((peer, host)) = self.peers.member(slot).map(|member| (member.to_protocol(), member.host)) else {
            return;
        };
        if !host {
            self.send_to_others(slot, &server::room_joined(&peer));
        }
        self.send(slot, server::peer_info(&peer));
    }

    /// Something has come from a peer: it knows where it is.
    pub(super) fn break_silence(&mut self, slot: PeerSlot) {
        if let Some(member) = self.peers.member_mut(slot) {
            member.is_silent = false;
            self.say_joined(slot);
        }
    }

    fn say_joined(&mut self, slot: PeerSlot) {
        self.actions.extend(self.peers.member(slot).map(|member| Action::PeerJoined(StoredPeer::of(member))));
    }

    pub(super) fn say_left(&mut self, slot: PeerSlot) {
        self.actions.extend(self.peers.member(slot).map(|member| Action::PeerLeft { clock: member.clock }));
    }

    fn next_attachment(&mut self) -> AttachmentId {
        self.transports += 1;
        self.last_attachment += 1;
        AttachmentId(self.last_attachment)
    }

    /// Takes a peer out of the session and tells the others. Without its host a session ends.
    pub(super) fn remove(&mut self, slot: PeerSlot, reason: CloseReason, now: Instant) {
        let Some(member) = self.peers.present_member(slot) else { return };
        if member.host {
            return self.end(end_reason(reason), now);
        }
        let left = server::room_left(&member.to_protocol());
        self.say_left(slot);
        self.audit(AuditKind::Left, slot);
        self.start_closing(slot, reason, now);
        self.fail_requests_of(slot);
        self.send_to_others(slot, &left);
    }
}

impl Member {
    /// Whether the same token is this peer. A peer that has left joins anew; one whose session has ended only hears of
    /// that.
    fn may_return(&self) -> bool {
        matches!(self.closing, None | Some(CloseReason::SessionEnded))
    }
}

/// Why a session ends whose host goes for this reason.
fn end_reason(reason: CloseReason) -> EndReason {
    match reason {
        CloseReason::Left => EndReason::HostLeft,
        CloseReason::OutboxFull => EndReason::HostOutboxFull,
        CloseReason::HeldFull => EndReason::HostHeldFull,
        CloseReason::Replaced => EndReason::HostReplaced,
        CloseReason::Gone | CloseReason::Displaced | CloseReason::Moved => EndReason::HostLost,
        CloseReason::SessionEnded => EndReason::Closed,
    }
}
