//! The state machine of one session.
//!
//! This file has a session's beginning, its questions and its end. The rest is by what happens to it: `attach` (peers
//! come, return, lose their transport, leave), `relay` (a peer sends something), `joins` (somebody asks to come in) and
//! `timeouts`; and by how it gets another owner: `moving` (its transports are closed), `estate` (it is written down and
//! read back), `resume` (its owner died).

mod attach;
pub(crate) mod estate;
mod joins;
mod moving;
mod relay;
pub(crate) mod resume;
mod timeouts;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_protocol::{KeyEntry, Peer, PeerId, RoomClaim, User, server};
use ctedge_wire::{Key, Random};

use crate::action::{Action, AttachmentId, AuditEvent, AuditKind, CloseReason, EndReason, JoinDecision, Warning};
use crate::counters::Counters;
use crate::limits::SessionLimits;
use crate::outbox::Outbox;
use crate::peers::{Delivery, Member, PeerSlot, Peers, deliver};
use crate::pending::Pending;

use joins::Join;
pub use moving::CutReason;
use moving::Moving;
use relay::Request;

/// How a session begins.
///
/// Room clocks count on from the time in milliseconds. So no two sessions under one key ever give out the same clock,
/// not even when one of them was lost with its node, and a token of an earlier session is known by its low clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// The room clock of the host's token. Guests of this session have higher ones.
    pub host_clock: u64,
    /// Joins get the clocks after this.
    pub clock: u64,
    /// Requests get the ids after this. A session that was lost goes on above all ids that it can ever have given: a
    /// response to a request of its earlier life must not be taken for the response to another one.
    request_id: u64,
}

impl Beginning {
    /// A fresh session, at the time `unix_now` since 1970.
    #[must_use]
    pub fn created(unix_now: Duration) -> Self {
        let clock = clock_at(unix_now);
        Self { host_clock: clock, clock, request_id: 0 }
    }

    /// A session that was lost with its node and comes back with its host, who bears `claim`.
    #[must_use]
    pub fn revived(claim: &RoomClaim, unix_now: Duration) -> Self {
        Self::again(claim.room_clock, unix_now)
    }

    /// The session of the host with this clock, after its earlier life was lost.
    fn again(host_clock: u64, unix_now: Duration) -> Self {
        // No session has made a million requests a second since 1970.
        let request_id = u64::try_from(unix_now.as_micros()).unwrap_or(u64::MAX / 2);
        Self { host_clock, clock: clock_at(unix_now).max(host_clock), request_id }
    }
}

fn clock_at(unix_now: Duration) -> u64 {
    u64::try_from(unix_now.as_millis()).unwrap_or(u64::MAX)
}

/// What [`Session::attach`] gives a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// The peer.
    pub peer: PeerSlot,
    /// This transport of it.
    pub attachment: AttachmentId,
    /// Whether the peer was there before.
    pub returned: bool,
}

/// One collaboration room. See the crate's documentation for how to drive it.
#[derive(Debug, Clone)]
pub struct Session {
    key: Key,
    limits: SessionLimits,
    recovery_id: Key,
    state: State,
    /// Whether [`Action::Finished`] has been given.
    said_finished: bool,
    host_clock: u64,
    /// The clock of the latest join.
    clock: u64,
    peers: Peers,
    host: Option<PeerSlot>,
    requests: Pending<Request>,
    /// Whether [`Action::InFlightChanged`] has been said since the last [`Session::in_flight_bytes`].
    in_flight_changed: bool,
    joins: Pending<Join>,
    last_request_id: u64,
    last_attachment: u64,
    /// Transports that have not been detached, displaced ones included.
    transports: usize,
    moving: Option<Moving>,
    /// Outboxes begin after this offset: above all that were ever given, so that an offset that a peer brings from an
    /// earlier life is never taken for one of this life.
    offset_floor: u64,
    /// The earliest `given_up_at` of all members.
    next_given_up: Option<Instant>,
    actions: VecDeque<Action>,
    /// Peers whose outbox was full; they are removed before the call that filled it ends.
    overflowed: Vec<PeerSlot>,
    counters: Counters,
    /// Kept between messages to spare an allocation for each.
    keys: Vec<KeyEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitingHost { until: Instant },
    Live,
    Ended,
}

impl Session {
    /// A session under `key` that waits for its host's transport, for [`SessionLimits::decision`] at most.
    #[must_use]
    pub fn new(key: Key, limits: SessionLimits, beginning: Beginning, random: &Random, now: Instant) -> Self {
        Self {
            key,
            recovery_id: Key::mint(random),
            state: State::AwaitingHost { until: now + limits.decision },
            limits,
            said_finished: false,
            host_clock: beginning.host_clock,
            clock: beginning.clock,
            peers: Peers::default(),
            host: None,
            requests: Pending::new(),
            in_flight_changed: false,
            joins: Pending::new(),
            last_request_id: beginning.request_id,
            last_attachment: 0,
            transports: 0,
            moving: None,
            offset_floor: 0,
            next_given_up: None,
            actions: VecDeque::new(),
            overflowed: Vec::new(),
            counters: Counters::default(),
            keys: Vec::new(),
        }
    }

    /// The session's key, which is its room id.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What the token of this session's host claims.
    #[must_use]
    pub fn host_claim(&self, user: User) -> RoomClaim {
        RoomClaim { room: self.key.clone(), room_clock: self.host_clock, user, host: true }
    }

    /// Names this life of the session: offsets that a client brings back mean something only if they were given under
    /// this name (the `pid` of Socket.IO's connection state recovery). It is no secret.
    #[must_use]
    pub fn recovery_id(&self) -> &str {
        self.recovery_id.as_str()
    }

    /// Whether the host is there, or in its grace period.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether the session has ended. Some of its peers may still have to hear of it.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether nothing of the session is needed any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_ended() && self.peers.is_empty()
    }

    /// How many peers take part, those in their grace period included.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.peers.present()
    }

    /// How many requests wait for a response.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Bytes that the outboxes of all peers hold.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.peers.iter().map(|(_, member)| member.outbox.bytes()).sum()
    }

    /// How many join requests wait for the host.
    #[must_use]
    pub fn joins_waiting(&self) -> usize {
        self.joins.len()
    }

    /// The host as others see it, while the session is live.
    #[must_use]
    pub fn host(&self) -> Option<Peer> {
        self.host.and_then(|slot| self.peers.present_member(slot)).map(Member::to_protocol)
    }

    /// The users of all peers, and whether each has a transport at the moment.
    pub fn users(&self) -> impl Iterator<Item = (&User, bool)> {
        let present = self.peers.iter().filter(|(_, member)| member.closing.is_none());
        present.map(|(_, member)| (&member.user, member.attachment.is_some()))
    }

    /// The id of a peer.
    #[must_use]
    pub fn peer_id(&self, peer: PeerSlot) -> Option<&PeerId> {
        self.peers.member(peer).map(|member| &member.id)
    }

    /// What a peer has been sent and has not yet proven to have. `None` once the peer is forgotten.
    #[must_use]
    pub fn outbox(&self, peer: PeerSlot) -> Option<&Outbox> {
        self.peers.member(peer).map(|member| &member.outbox)
    }

    /// Why this transport is to be closed, if it is. A displaced transport is to be closed at once, any other after
    /// what the peer's outbox still holds.
    #[must_use]
    pub fn closing(&self, peer: PeerSlot, attachment: AttachmentId) -> Option<CloseReason> {
        match self.peers.member(peer) {
            None => Some(CloseReason::Gone),
            Some(member) if member.attachment != Some(attachment) => Some(CloseReason::Displaced),
            Some(member) => member.closing.or_else(|| self.is_sent_away(member).then_some(CloseReason::Moved)),
        }
    }

    /// Receipt of everything up to `offset` is proven: it need not be kept.
    pub fn acknowledge(&mut self, peer: PeerSlot, offset: u64) {
        if let Some(member) = self.peers.member_mut(peer) {
            member.outbox.acknowledge(offset);
        }
    }

    /// The cursor at which a transport starts. `recovered` is the offset that the client says it has, given only if it
    /// came with this session's [`Self::recovery_id`]; it proves receipt. Without it the transport starts before
    /// everything whose receipt is not proven.
    pub fn cursor_after(&mut self, peer: PeerSlot, recovered: Option<u64>) -> u64 {
        let Some(member) = self.peers.member_mut(peer) else { return 0 };
        if let Some(offset) = recovered {
            member.outbox.acknowledge(offset);
        }
        member.outbox.start()
    }

    /// What to do next. Take them all after every call that changes the session.
    pub fn next_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if let Some(Action::Wake(peer)) = action
            && let Some(member) = self.peers.member_mut(peer)
        {
            member.wake_waits = false;
        }
        action
    }

    /// What was relayed and dropped since the last call.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    /// Ends the session: guests hear `room/closed`, and so does a host that has not gone itself.
    pub fn end(&mut self, reason: EndReason, now: Instant) {
        if self.is_ended() {
            return;
        }
        self.state = State::Ended;
        self.requests = Pending::new();
        for (_, join) in self.joins.take_matching(|_| true) {
            self.actions.push_back(Action::JoinDecided { token: join.token, decision: JoinDecision::SessionEnded });
        }
        let present: Vec<PeerSlot> = self.peers.present_mut().map(|(slot, _)| slot).collect();
        // Whoever joined leaves at the latest with the session, so that the audit tells how long each was there.
        let host = self.host;
        for slot in present.iter().filter(|slot| Some(**slot) != host) {
            self.audit(AuditKind::Left, *slot);
        }
        if let Some(host) = self.host {
            self.audit(AuditKind::Ended(reason), host);
        }
        let closed = server::room_closed();
        for slot in present {
            // A next owner, should there be one before all is forgotten, must not bring them back.
            self.say_left(slot);
            // A host that ended the session by its own going needs no telling.
            if Some(slot) != self.host || reason == EndReason::Closed {
                self.send(slot, closed.clone());
            }
            self.start_closing(slot, self.close_reason_at_end(slot, reason), now);
        }
        // A guest that had no room for `room/closed` has it no worse: its transport is closed like the others.
        self.overflowed.clear();
        self.actions.push_back(Action::Ended { reason });
        self.finish_if_empty();
    }

    fn close_reason_at_end(&self, slot: PeerSlot, reason: EndReason) -> CloseReason {
        match reason {
            EndReason::HostLeft if self.host == Some(slot) => CloseReason::Left,
            EndReason::HostOutboxFull if self.host == Some(slot) => CloseReason::OutboxFull,
            EndReason::HostHeldFull if self.host == Some(slot) => CloseReason::HeldFull,
            EndReason::HostReplaced if self.host == Some(slot) => CloseReason::Replaced,
            _ => CloseReason::SessionEnded,
        }
    }

    /// Takes a member out of the session. If it has a transport, that is to be closed; if not, it is forgotten, unless
    /// it may yet return to hear that the session has ended.
    fn start_closing(&mut self, slot: PeerSlot, reason: CloseReason, now: Instant) {
        self.peers.start_closing(slot, reason);
        let Some(member) = self.peers.member_mut(slot) else { return };
        self.offset_floor = self.offset_floor.max(member.outbox.end());
        if reason == CloseReason::OutboxFull {
            member.outbox.clear();
        }
        if member.attachment.is_some() {
            self.actions.push_back(Action::ClosePeer { peer: slot, reason });
        } else if reason != CloseReason::SessionEnded || member.given_up_at.is_none_or(|at| at <= now) {
            self.peers.remove(slot);
        }
        self.find_next_given_up();
    }

    fn finish_if_empty(&mut self) {
        if self.is_finished() && !self.said_finished {
            self.said_finished = true;
            self.actions.push_back(Action::Finished);
        }
    }

    fn find_next_given_up(&mut self) {
        self.next_given_up = self.peers.iter().filter_map(|(_, member)| member.given_up_at).min();
    }

    /// Puts a message into a peer's outbox, if it takes part in the session.
    fn send(&mut self, slot: PeerSlot, message: Bytes) {
        let bytes = message.len() as u64;
        let Some(member) = self.peers.member_mut(slot).filter(|member| member.closing.is_none()) else { return };
        match deliver(member, message) {
            Delivery::Full => return self.overflowed.push(slot),
            Delivery::Wake => self.actions.push_back(Action::Wake(slot)),
            Delivery::Delivered => {}
        }
        self.counters.delivered += 1;
        self.counters.delivered_bytes += bytes;
    }

    /// Puts a message of the server into the outbox of every peer but one.
    fn send_to_others(&mut self, but: PeerSlot, message: &Bytes) {
        let others: Vec<PeerSlot> =
            self.peers.present_mut().map(|(slot, _)| slot).filter(|slot| *slot != but).collect();
        for slot in others {
            self.send(slot, message.clone());
        }
    }

    /// Removes the peers that a call has overflowed. Telling the others of it may overflow more of them; each round
    /// removes one, so it ends.
    fn settle(&mut self, now: Instant) {
        while let Some(slot) = self.overflowed.pop() {
            self.remove(slot, CloseReason::OutboxFull, now);
        }
    }

    fn audit(&mut self, kind: AuditKind, slot: PeerSlot) {
        if let Some(member) = self.peers.member(slot) {
            self.actions.push_back(Action::Audit(AuditEvent {
                kind,
                session: self.key.clone(),
                user: member.user.clone(),
                peer: member.id.clone(),
                client: member.handshake.client.clone(),
            }));
        }
    }

    fn warn(&mut self, slot: PeerSlot, warning: Warning) {
        let Some(member) = self.peers.member_mut(slot) else { return };
        if member.warned & warning.bit() == 0 {
            member.warned |= warning.bit();
            self.actions.push_back(Action::Warning { peer: member.id.clone(), warning });
        }
    }
}
