//! A session goes on at another owner after its owner died, from what was stored of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_protocol::msgpack;
use ctedge_wire::{Key, Random};

use super::relay::REQUEST_ID_BYTES_MAX;
use super::{Beginning, Session, State};
use crate::action::Action;
use crate::limits::SessionLimits;
use crate::outbox::Outbox;
use crate::peers::{Member, PeerSlot};
use crate::stored::{StoredPeer, WrittenRequest, encode};

/// What the requester of a lost request is told.
const OWNER_LOST: &str =
    "Failed to retrieve the requested data: the server of the session was lost and another one has taken over.";

/// Why a session cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// No host is among the stored peers: it never came, or it left. A host that comes with a valid token can begin the
    /// session anew ([`Beginning::revived`]).
    #[error("no host is stored of the session")]
    HostMissing,
}

impl Session {
    /// The session that had these `peers` and these requests `in_flight` when its owner died: what [`Self::in_flight_bytes`] gave, and
    /// each [`Action::Requested`] since then.
    ///
    /// All peers are within their grace period, with the ids that they had. One that had not said anything yet is announced once more.
    /// Requests that were in flight fail at once:
    /// their requesters find an error when they return. What was undelivered is gone, and so are waiting joins.
    pub fn resumed(
        key: Key,
        limits: SessionLimits,
        peers: &[StoredPeer],
        in_flight: Option<&[u8]>,
        unix_now: Duration,
        random: &Random,
        now: Instant,
    ) -> Result<Self, ResumeError> {
        let host = peers.iter().find(|peer| peer.host).ok_or(ResumeError::HostMissing)?;
        let mut session = Self::new(key, limits, Beginning::again(host.clock, unix_now), random, now);
        // The host came first, and guests are known by higher clocks.
        session.bring_back(host, now);
        for guest in peers.iter().filter(|peer| !peer.host && peer.clock > host.clock) {
            session.bring_back(guest, now);
        }
        session.host = session.peers.find(|member| member.host);
        if session.host.is_none() {
            return Err(ResumeError::HostMissing);
        }
        session.state = State::Live;
        // Nor shall the next owner find whom this one did not.
        for lost in peers.iter().filter(|peer| session.peers.find(|member| member.clock == peer.clock).is_none()) {
            session.actions.push_back(Action::PeerLeft { clock: lost.clock });
        }
        session.find_next_given_up();
        session.announce_the_silent();
        session.fail_lost_requests(in_flight.unwrap_or_default());
        session.settle(now);
        Ok(session)
    }

    /// A stored peer, without a transport. One that cannot be read is none: its token lets it join anew.
    fn bring_back(&mut self, peer: &StoredPeer, now: Instant) {
        let Some((user, written)) = peer.read() else { return };
        let is_silent = written.is_silent;
        let (id, handshake) = written.read();
        if self.peers.find(|member| member.clock == peer.clock).is_some() {
            return;
        }
        self.clock = self.clock.max(peer.clock);
        let mut origin = Vec::new();
        msgpack::write_str(&mut origin, id.as_str());
        self.peers.insert(Member {
            id,
            origin: Bytes::from(origin),
            clock: peer.clock,
            host: peer.host,
            user,
            handshake,
            is_silent,
            outbox: Outbox::new(self.offset_floor, self.limits.outbox_bytes_max),
            attachment: None,
            given_up_at: Some(now + self.limits.grace),
            closing: None,
            wake_waits: false,
            warned: 0,
        });
    }

    /// Of whom nothing was heard yet may have lost, with its owner, what a peer hears that joins; and so may the others, who answer to
    /// its coming. All of them are told again.
    fn announce_the_silent(&mut self) {
        let silent = self.peers.iter().filter(|(_, member)| member.is_silent);
        let silent: Vec<PeerSlot> = silent.map(|(slot, _)| slot).collect();
        silent.into_iter().for_each(|slot| self.tell_of_joining(slot));
    }

    fn fail_lost_requests(&mut self, in_flight: &[u8]) {
        let lost = WrittenRequest::read_all(in_flight);
        for WrittenRequest { clock, id } in lost.into_iter().take(self.limits.requests_in_flight_max) {
            let requester = self.peers.find(|member| member.clock == clock);
            if let Some(requester) = requester.filter(|_| is_one_value(&id)) {
                self.fail(requester, &id, OWNER_LOST);
            }
        }
    }

    /// What is to be stored of every peer, the host first.
    #[must_use]
    pub fn stored_peers(&self) -> Vec<StoredPeer> {
        let present = self.peers.iter().filter(|(_, member)| member.closing.is_none());
        let mut stored: Vec<StoredPeer> = present.map(|(_, member)| StoredPeer::of(member)).collect();
        stored.sort_by_key(|peer| peer.clock);
        stored
    }

    /// What is to be stored of the requests in flight: who waits, under which id. Empty when there are none.
    #[must_use]
    pub fn in_flight_bytes(&mut self) -> Bytes {
        self.in_flight_changed = false;
        let waiting =
            self.requests.iter().filter_map(|(_, _, request)| self.written_request(request.requester, &request.id));
        let waiting: Vec<WrittenRequest> = waiting.collect();
        if waiting.is_empty() { Bytes::new() } else { encode(&waiting) }
    }

    /// A request is in flight that was not.
    pub(super) fn say_requested(&mut self, requester: PeerSlot, id: &[u8]) {
        self.say_in_flight_changed();
        let written = self.written_request(requester, id);
        self.actions.extend(written.map(|request| Action::Requested(encode(&[request]))));
    }

    /// A request as it is written down. `None` of a requester who is gone.
    fn written_request(&self, requester: PeerSlot, id: &[u8]) -> Option<WrittenRequest> {
        let clock = self.peers.present_member(requester)?.clock;
        Some(WrittenRequest { clock, id: Bytes::copy_from_slice(id) })
    }

    pub(super) fn say_in_flight_changed(&mut self) {
        if !self.in_flight_changed {
            self.in_flight_changed = true;
            self.actions.push_back(Action::InFlightChanged);
        }
    }
}

/// Whether these bytes can stand in a message as the value of its id.
pub(super) fn is_one_value(id: &[u8]) -> bool {
    let mut reader = msgpack::Reader::new(id);
    id.len() <= REQUEST_ID_BYTES_MAX && reader.skip().is_ok() && reader.is_at_end()
}
