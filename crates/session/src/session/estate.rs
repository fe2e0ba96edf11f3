//! A session written down by one owner and read back by the next.
//!
//! The form has named fields. A reader skips those that it does not know, and those that a writer did not know have
//! defaults: during an upgrade, owners of different versions hand sessions to each other in both directions. What cannot
//! be said that way needs another [`FORMAT`], which older owners refuse.
//!
//! Deadlines are written as the time that is left, so that the clocks of two machines need not agree. What is read is
//! a stranger's bytes until every invariant of a session has been checked.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_protocol::{User, msgpack};
use ctedge_wire::{Key, KeyedToken};
use serde::{Deserialize, Serialize};

use super::joins::Join;
use super::relay::Request;
use super::resume::is_one_value;
use super::{Beginning, Session, State};
use crate::action::CloseReason;
use crate::limits::SessionLimits;
use crate::outbox::Outbox;
use crate::peers::{Member, PeerSlot};
use crate::stored::{WrittenHandshake, encode};

/// The form that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// More peers than any session has; a bound for what is read.
const PEERS_MAX: usize = 10_000;

/// Numbers that count up from what is read may not come near the end of the numbers.
const COUNT_MAX: u64 = u64::MAX / 2;

/// Why bytes are no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EstateError {
    /// They cannot be read.
    #[error("the bytes are no written session: {0}")]
    Unreadable(String),
    /// They are of a form that this version does not know.
    #[error("the session is written in form {0}; this version reads form {FORMAT}")]
    Format(u32),
    /// They contradict themselves.
    #[error("the written session contradicts itself: {0}")]
    Inconsistent(&'static str),
}

#[derive(Serialize, Deserialize)]
struct WrittenSession {
    format: u32,
    key: Key,
    recovery_id: Key,
    state: WrittenState,
    /// For a session whose host has not come.
    #[serde(default)]
    host_within_us: u64,
    #[serde(default)]
    said_finished: bool,
    host_clock: u64,
    clock: u64,
    peers: Vec<WrittenPeer>,
    requests: Vec<WrittenRequest>,
    joins: Vec<WrittenJoin>,
    last_request_id: u64,
    last_attachment: u64,
    offset_floor: u64,
    #[serde(default)]
    luggage: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WrittenState {
    AwaitingHost,
    Live,
    Ended,
}

#[derive(Serialize, Deserialize)]
struct WrittenPeer {
    clock: u64,
    host: bool,
    user: User,
    #[serde(flatten)]
    handshake: WrittenHandshake,
    given_up_in_us: u64,
    /// The session has ended, and the peer may return to hear of it.
    #[serde(default)]
    is_closing: bool,
    #[serde(default)]
    warned: u8,
    outbox_start: u64,
    outbox: Vec<Bytes>,
}

/// A request in flight. Peers are named by their places in the list.
#[derive(Serialize, Deserialize)]
struct WrittenRequest {
    id: u64,
    requester: u32,
    target: u32,
    requester_id: Bytes,
    expires_in_us: u64,
}

#[derive(Serialize, Deserialize)]
struct WrittenJoin {
    id: u64,
    user: User,
    token: String,
    expires_in_us: u64,
}

impl Session {
    /// The session as its next owner needs it. Take all actions before. A peer that still has a transport is written as
    /// if that were gone at `now`. `luggage` is the owner's own and comes out of [`Self::from_estate`] as it is.
    #[must_use]
    pub fn export(&self, luggage: Bytes, now: Instant) -> Bytes {
        let mut last = self.clone();
        last.detach_all(now);
        encode(&last.write(luggage, now))
    }

    /// The session that was [exported](Self::export), and the luggage beside it. Times go on where they were, but no
    /// further than these `limits` allow.
    pub fn from_estate(bytes: &[u8], limits: SessionLimits, now: Instant) -> Result<(Self, Bytes), EstateError> {
        let mut written: WrittenSession =
            rmp_serde::from_slice(bytes).map_err(|error| EstateError::Unreadable(error.to_string()))?;
        if written.format != FORMAT {
            return Err(EstateError::Format(written.format));
        }
        written.check()?;
        let luggage = std::mem::take(&mut written.luggage);
        Ok((Self::read(written, limits, now)?, luggage))
    }

    fn write(&self, luggage: Bytes, now: Instant) -> WrittenSession {
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        let place =
            |slot: PeerSlot| slots.iter().position(|found| *found == slot).and_then(|at| u32::try_from(at).ok());
        let (state, host_within_us) = match self.state {
            State::AwaitingHost { until } => (WrittenState::AwaitingHost, left(until, now)),
            State::Live => (WrittenState::Live, 0),
            State::Ended => (WrittenState::Ended, 0),
        };
        let requests = self.requests.iter().filter_map(|(id, until, request)| {
            let (requester, target) = (place(request.requester)?, place(request.target)?);
            let requester_id = Bytes::copy_from_slice(&request.id);
            Some(WrittenRequest { id, requester, target, requester_id, expires_in_us: left(until, now) })
        });
        let joins = self.joins.iter().map(|(id, until, join)| {
            let token = join.token.as_str().to_owned();
            WrittenJoin { id, user: join.user.clone(), token, expires_in_us: left(until, now) }
        });
        WrittenSession {
            format: FORMAT,
            key: self.key.clone(),
            recovery_id: self.recovery_id.clone(),
            state,
            host_within_us,
            said_finished: self.said_finished,
            host_clock: self.host_clock,
            clock: self.clock,
            peers: self.peers.iter().map(|(_, member)| WrittenPeer::of(member, now)).collect(),
            requests: requests.collect(),
            joins: joins.collect(),
            last_request_id: self.last_request_id,
            last_attachment: self.last_attachment,
            offset_floor: self.offset_floor,
            luggage,
        }
    }

    fn read(written: WrittenSession, limits: SessionLimits, now: Instant) -> Result<Self, EstateError> {
        let beginning =
            Beginning { host_clock: written.host_clock, clock: written.clock, request_id: written.last_request_id };
        let mut session = Self::new(written.key, limits, beginning, &[0; 32], now);
        session.recovery_id = written.recovery_id;
        session.said_finished = written.said_finished;
        session.last_attachment = written.last_attachment;
        session.offset_floor = written.offset_floor;
        session.state = match written.state {
            WrittenState::AwaitingHost => {
                State::AwaitingHost { until: at(written.host_within_us, session.limits.decision, now) }
            }
            WrittenState::Live => State::Live,
            WrittenState::Ended => State::Ended,
        };
        let mut slots = Vec::with_capacity(written.peers.len());
        for peer in written.peers {
            slots.push(session.read_peer(peer, now)?);
        }
        session.host = session.peers.find(|member| member.host);
        for request in written.requests {
            let until = at(request.expires_in_us, session.limits.request, now);
            let (requester, target) = (slots[request.requester as usize], slots[request.target as usize]);
            let id = request.requester_id.to_vec().into();
            session.requests.insert(request.id, until, Request { requester, target, id });
        }
        for join in written.joins {
            let until = at(join.expires_in_us, session.limits.decision, now);
            let token = KeyedToken::parse(&join.token).ok_or(EstateError::Inconsistent("a join's token"))?;
            session.joins.insert(join.id, until, Join { user: join.user, token });
        }
        session.find_next_given_up();
        Ok(session)
    }

    fn read_peer(&mut self, peer: WrittenPeer, now: Instant) -> Result<PeerSlot, EstateError> {
        let is_silent = peer.handshake.is_silent;
        let (id, handshake) = peer.handshake.read();
        let mut origin = Vec::new();
        msgpack::write_str(&mut origin, id.as_str());
        let outbox = Outbox::restored(peer.outbox_start, peer.outbox, self.limits.outbox_bytes_max);
        let slot = self.peers.insert(Member {
            id,
            origin: origin.into(),
            clock: peer.clock,
            host: peer.host,
            user: peer.user,
            handshake,
            is_silent,
            outbox: outbox.ok_or(EstateError::Inconsistent("an outbox's offsets"))?,
            attachment: None,
            given_up_at: Some(at(peer.given_up_in_us, self.limits.grace, now)),
            closing: None,
            wake_waits: false,
            warned: peer.warned,
        });
        if peer.is_closing {
            self.peers.start_closing(slot, CloseReason::SessionEnded);
        }
        Ok(slot)
    }
}

impl WrittenPeer {
    fn of(member: &Member, now: Instant) -> Self {
        Self {
            clock: member.clock,
            host: member.host,
            user: member.user.clone(),
            handshake: WrittenHandshake::of(member),
            given_up_in_us: member.given_up_at.map_or(0, |until| left(until, now)),
            is_closing: member.closing.is_some(),
            warned: member.warned,
            outbox_start: member.outbox.start(),
            outbox: member.outbox.messages().cloned().collect(),
        }
    }
}

impl WrittenSession {
    /// Everything that the rest of the session takes for granted.
    fn check(&self) -> Result<(), EstateError> {
        let counts = [self.host_clock, self.clock, self.last_request_id, self.last_attachment, self.offset_floor];
        ensure(counts.iter().all(|count| *count <= COUNT_MAX), "a number that is too high")?;
        ensure(self.peers.len() <= PEERS_MAX, "too many peers")?;
        let clocks: HashSet<u64> = self.peers.iter().map(|peer| peer.clock).collect();
        ensure(clocks.len() == self.peers.len(), "two peers of one clock")?;
        let fits = |peer: &WrittenPeer| {
            if peer.host { peer.clock == self.host_clock } else { peer.clock > self.host_clock }
        };
        ensure(self.peers.iter().all(fits), "a peer's clock that does not fit its role")?;
        ensure(self.peers.iter().all(|peer| peer.clock <= self.clock), "a peer from the future")?;
        let hosts = self.peers.iter().filter(|peer| peer.host && !peer.is_closing).count();
        let closing = self.peers.iter().filter(|peer| peer.is_closing).count();
        let state_fits = match self.state {
            WrittenState::AwaitingHost => self.peers.is_empty() && self.joins.is_empty(),
            WrittenState::Live => hosts == 1 && closing == 0,
            WrittenState::Ended => closing == self.peers.len() && self.joins.is_empty(),
        };
        ensure(state_fits && (closing == 0 || self.requests.is_empty()), "peers that do not fit the session's state")?;
        self.check_waiting()
    }

    fn check_waiting(&self) -> Result<(), EstateError> {
        let requests = self.requests.iter().map(|request| (request.id, request.expires_in_us));
        let joins = self.joins.iter().map(|join| (join.id, join.expires_in_us));
        ensure(
            is_rising(requests, self.last_request_id) && is_rising(joins, self.last_request_id),
            "ids out of order",
        )?;
        let requests: HashSet<u64> = self.requests.iter().map(|request| request.id).collect();
        ensure(self.joins.iter().all(|join| !requests.contains(&join.id)), "one id for two that wait")?;
        let are_peers = self.requests.iter().all(|request| {
            [request.requester, request.target].iter().all(|place| (*place as usize) < self.peers.len())
        });
        ensure(are_peers, "a request of nobody")?;
        ensure(self.requests.iter().all(|request| is_one_value(&request.requester_id)), "a request's id")
    }
}

/// Whether ids rise up to `last` and deadlines do not fall: a [`crate::pending::Pending`] relies on both.
fn is_rising(waiting: impl Iterator<Item = (u64, u64)>, last: u64) -> bool {
    let mut before = (0, 0);
    for (id, expires) in waiting {
        if id <= before.0 || id > last || expires < before.1 {
            return false;
        }
        before = (id, expires);
    }
    true
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<(), EstateError> {
    if holds { Ok(()) } else { Err(EstateError::Inconsistent(otherwise)) }
}

fn left(until: Instant, now: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(now).as_micros()).unwrap_or(u64::MAX)
}

fn at(left_us: u64, max: Duration, now: Instant) -> Instant {
    now + Duration::from_micros(left_us).min(max)
}
