//! A peer sends something.

use std::time::Instant;

use bytes::Bytes;
use ctedge_protocol::head::{Malformed, Span};
use ctedge_protocol::server::{EncodedId, response_error};
use ctedge_protocol::splice::{Replacements, splice};
use ctedge_protocol::{Content, Head, KeyEntry, Kind, ServerNotification, Target, is_compatible};

use super::Session;
use crate::action::Warning;
use crate::peers::{Delivery, PeerSlot, deliver};

/// The longest id of a request, as MessagePack. Clients count; the bound leaves room for UUIDs and the like.
pub(super) const REQUEST_ID_BYTES_MAX: usize = 128;

/// Why the server answers a request itself.
const TARGET_MISSING: &str = "Failed to retrieve the requested data: the peer is not in the session.";
const TARGET_LEFT: &str = "Failed to retrieve the requested data: the peer has left the session.";
const TOO_MANY: &str = "Failed to retrieve the requested data: too many requests wait for a response.";
const TOO_LARGE: &str = "Failed to retrieve the requested data: the request is too large.";
pub(super) const TIMED_OUT: &str = "Failed to retrieve the requested data: the peer did not answer in time.";

/// A request that waits for the response of the peer that was asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) requester: PeerSlot,
    pub(super) target: PeerSlot,
    /// The id under which the requester waits, as MessagePack.
    pub(super) id: Box<[u8]>,
}

impl Session {
    /// Takes a message that a peer sent: one MessagePack map. What cannot be relayed is dropped and counted.
    pub fn receive(&mut self, from: PeerSlot, message: &[u8], now: Instant) {
        let Some(member) = self.peers.present_member(from).filter(|_| !self.is_cut()) else { return };
        if member.is_silent {
            self.break_silence(from);
        }
        self.counters.received += 1;
        let mut keys = std::mem::take(&mut self.keys);
        match Head::walk(message, &mut keys) {
            Ok(head) => self.relay(from, &head, &keys, now),
            Err(malformed) => self.drop_malformed(from, malformed),
        }
        self.keys = keys;
        self.settle(now);
    }

    fn relay(&mut self, from: PeerSlot, head: &Head<'_>, keys: &[KeyEntry], now: Instant) {
        if !head.version.and_then(|version| std::str::from_utf8(version).ok()).is_some_and(is_compatible) {
            self.counters.incompatible += 1;
            return self.warn(from, Warning::IncompatibleVersion);
        }
        if head.message.len() > self.limits.message_bytes_max {
            return self.drop_too_large(from, head);
        }
        match head.kind {
            Kind::Broadcast => self.broadcast(from, head, keys),
            Kind::Request => self.request(from, head, now),
            Kind::Response | Kind::ResponseError => self.response(from, head),
            Kind::Notification => self.notification(from, head, now),
            Kind::Other => self.counters.unknown += 1,
        }
    }

    /// To every other peer, with `keys` cut to its own entry. Without an entry it could not decrypt the message.
    fn broadcast(&mut self, from: PeerSlot, head: &Head<'_>, keys: &[KeyEntry]) {
        if head.content != Content::Encrypted {
            return self.drop_unencrypted(from);
        }
        let Some(origin) = self.origin(from) else { return };
        let mut finder = KeyFinder { message: head.message, keys, next: 0 };
        for (slot, member) in self.peers.present_mut().filter(|(slot, _)| *slot != from) {
            let Some(key) = finder.find(member.id.as_str().as_bytes()) else {
                self.counters.keys_missing += 1;
                continue;
            };
            let message =
                splice(head, Replacements { origin: Some(&origin), id: None, key: Some(key.of(head.message)) });
            let bytes = message.len() as u64;
            match deliver(member, message) {
                Delivery::Full => {
                    self.overflowed.push(slot);
                    continue;
                }
                Delivery::Wake => self.actions.push_back(crate::Action::Wake(slot)),
                Delivery::Delivered => {}
            }
            self.counters.delivered += 1;
            self.counters.delivered_bytes += bytes;
        }
    }

    /// To the peer that is asked, under a fresh id.
    fn request(&mut self, from: PeerSlot, head: &Head<'_>, now: Instant) {
        if head.content != Content::Encrypted {
            return self.drop_unencrypted(from);
        }
        let Some(id) = head.id.filter(|id| id.len() <= REQUEST_ID_BYTES_MAX) else {
            return self.drop_malformed(from, Malformed::Unexpected);
        };
        let id = id.of(head.message);
        let Some(target) = self.target(head) else {
            return self.fail(from, id, TARGET_MISSING);
        };
        if self.requests.len() >= self.limits.requests_in_flight_max {
            return self.fail(from, id, TOO_MANY);
        }
        let Some(origin) = self.origin(from) else { return };
        let fresh = self.next_request_id();
        self.requests.insert(fresh, now + self.limits.request, Request { requester: from, target, id: id.into() });
        self.say_requested(from, id);
        let fresh = EncodedId::new(fresh);
        let message = splice(head, Replacements { origin: Some(&origin), id: Some(fresh.as_bytes()), key: None });
        self.send(target, message);
    }

    /// Back to the requester, under its own id; only from the peer that was asked.
    fn response(&mut self, from: PeerSlot, head: &Head<'_>) {
        let id = head.id.and_then(|id| EncodedId::read(id.of(head.message)));
        match id.map(|id| (id, self.requests.find(id).map(|request| request.target))) {
            Some((id, Some(target))) if target == from => {
                if head.content != Content::Encrypted {
                    return self.drop_unencrypted(from);
                }
                if let Some(request) = self.requests.take(id) {
                    self.say_in_flight_changed();
                    let message = splice(head, Replacements { origin: None, id: Some(&request.id), key: None });
                    self.send(request.requester, message);
                }
            }
            Some((id, None)) if Some(from) == self.host => self.join_answered(id, head),
            _ => self.counters.stray_responses += 1,
        }
    }

    fn notification(&mut self, from: PeerSlot, head: &Head<'_>, now: Instant) {
        if head.target == Target::Server {
            return self.server_notification(from, head, now);
        }
        if head.content != Content::Encrypted {
            return self.drop_unencrypted(from);
        }
        let (Some(target), Some(origin)) = (self.target(head), self.origin(from)) else {
            self.counters.unknown_targets += 1;
            return;
        };
        let message = splice(head, Replacements { origin: Some(&origin), id: None, key: None });
        self.send(target, message);
    }

    fn server_notification(&mut self, from: PeerSlot, head: &Head<'_>, now: Instant) {
        let Content::Plain(content) = head.content else {
            self.counters.unknown += 1;
            return;
        };
        match ServerNotification::read(content.of(head.message)) {
            Ok(ServerNotification::Leave) => self.leave(from, now),
            Ok(ServerNotification::Unknown) => self.counters.unknown += 1,
            Err(malformed) => self.drop_malformed(from, malformed),
        }
    }

    /// Answers every request that a peer who is gone will not answer any more, and forgets those that it waits for.
    pub(super) fn fail_requests_of(&mut self, gone: PeerSlot) {
        let own = self.requests.take_matching(|request| request.requester == gone);
        let asked = self.requests.take_matching(|request| request.target == gone);
        if !own.is_empty() || !asked.is_empty() {
            self.say_in_flight_changed();
        }
        for (_, request) in asked {
            self.fail(request.requester, &request.id, TARGET_LEFT);
        }
    }

    /// Answers every request whose time is over.
    pub(super) fn fail_expired_requests(&mut self, now: Instant) {
        while let Some((_, request)) = self.requests.take_expired(now) {
            self.say_in_flight_changed();
            self.fail(request.requester, &request.id, TIMED_OUT);
        }
    }

    pub(super) fn fail(&mut self, requester: PeerSlot, id: &[u8], why: &str) {
        self.counters.requests_failed += 1;
        self.send(requester, response_error(id, why));
    }

    fn drop_malformed(&mut self, from: PeerSlot, malformed: Malformed) {
        self.counters.malformed += 1;
        self.warn(from, Warning::Malformed(malformed));
    }

    fn drop_unencrypted(&mut self, from: PeerSlot) {
        self.counters.unencrypted += 1;
        self.warn(from, Warning::Unencrypted);
    }

    fn drop_too_large(&mut self, from: PeerSlot, head: &Head<'_>) {
        self.counters.too_large += 1;
        self.warn(from, Warning::TooLarge);
        if let (Kind::Request, Some(id)) = (head.kind, head.id.filter(|id| id.len() <= REQUEST_ID_BYTES_MAX)) {
            self.fail(from, id.of(head.message), TOO_LARGE);
        }
    }

    fn target(&self, head: &Head<'_>) -> Option<PeerSlot> {
        match head.target {
            Target::Peer(id) => self.peers.by_id(id),
            Target::Server | Target::Missing => None,
        }
    }

    fn origin(&self, slot: PeerSlot) -> Option<Bytes> {
        self.peers.member(slot).map(|member| member.origin.clone())
    }

    pub(super) fn next_request_id(&mut self) -> u64 {
        self.last_request_id += 1;
        self.last_request_id
    }
}

/// Finds each receiver's entry among the keys of a broadcast. Senders list their peers in the order in which these
/// joined, and so does the session, so the search goes on where the last one ended and mostly hits at once.
struct KeyFinder<'a> {
    message: &'a [u8],
    keys: &'a [KeyEntry],
    next: usize,
}

impl KeyFinder<'_> {
    fn find(&mut self, id: &[u8]) -> Option<Span> {
        let (before, after) = self.keys.split_at(self.next.min(self.keys.len()));
        let hits = |entry: &KeyEntry| entry.target.of(self.message) == id;
        let at = match after.iter().position(hits) {
            Some(at) => before.len() + at,
            None => before.iter().position(hits)?,
        };
        self.next = at + 1;
        Some(self.keys[at].entry)
    }
}
