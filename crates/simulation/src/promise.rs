//! The promises: what must hold after each event, and what must come about in the end.

use std::fmt;
use std::time::{Duration, Instant};

use ctedge_ownership::Epoch;
use ctedge_wire::Key;

use crate::client::{Client, Phase};
use crate::event::Event;
use crate::process::Process;
use crate::profile::Profile;
use crate::store::StoreRoom;
use crate::world::World;

/// How long a session is out of reach at most while nothing is wrong.
const AVAILABLE_WITHIN: Duration = Duration::from_secs(25);

/// Within what time a node that reaches the store again finds that its lease is over: a beat that is under way has to fail
/// first, and the next may be lost.
const LETS_GO_WITHIN: Duration = Duration::from_secs(10);

/// The promises of the design, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// No two requests of a live session are served by different nodes.
    OneOwner = 1,
    /// Adding or removing nodes moves no live session.
    ListsMoveNothing,
    /// A drain, a rolling restart or a balancer restart loses no message and ends no session.
    OrdersEndNothing,
    /// After `kill -9` of a node its sessions go on elsewhere: the same peers, the same ids.
    DeathsEndNothing,
    /// `kill -9` of a balancer loses nothing but its open sockets, for a balancer holds no truth.
    BalancersHoldNothing,
    /// Seats are never oversold across nodes.
    SeatsAreNotOversold,
    /// Everything that can grow has a bound.
    EverythingIsBounded,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// How long the world had existed.
    pub after: Duration,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, after, what } = self;
        write!(formatter, "promise {} ({promise:?}) is broken after {after:?}: {what}", *promise as u8)
    }
}

/// A message that a session has accepted: its peers will get it.
#[derive(Debug)]
pub(crate) struct Accepted {
    room: usize,
    sender: usize,
    number: u64,
    to: Vec<usize>,
    at: Instant,
}

/// What was last done to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Begun,
    HandedOff,
    TakenOver,
}

impl World {
    pub(crate) fn check(&mut self, promise: Promise, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { promise, after: self.now - self.start, what: what() });
        }
    }

    /// What a session that is lost is a breach of.
    fn promise_to_keep(&self) -> Promise {
        if self.profile == Profile::Operated { Promise::OrdersEndNothing } else { Promise::DeathsEndNothing }
    }

    /// Promise 1: what a node serves is its own, and nobody else has served it at that epoch or a later one. What it serves is
    /// for a client behind that balancer, who `is_cut` off from it already if the connection broke.
    ///
    /// The promise has one exception. A node that reaches neither the store nor the others goes on when they have ended its
    /// lease, until it reaches the store again, or every balancer behind which it has clients has heard of that end. `false`
    /// says that this is such a case: what it does then is none of the session's history.
    pub(crate) fn check_serving(
        &mut self,
        process: usize,
        key: &Key,
        epoch: Epoch,
        balancer: usize,
        is_cut: bool,
    ) -> bool {
        let is_astray = self.is_astray(process);
        if is_astray {
            self.seen.astray += 1;
            // What was on the way when the balancer heard of it comes to the node all the same.
            let knows =
                !is_cut && self.balancers[balancer].over.contains_key(self.processes[process].ownership.lease());
            self.check(Promise::OneOwner, !knows, || {
                format!("{key} is served by {process} through {balancer}, which knows that its lease is over")
            });
        } else {
            let before = self.served.insert(key.clone(), (epoch, process));
            let is_one = before.is_none_or(|(last, by)| last < epoch || (last == epoch && by == process));
            self.check(Promise::OneOwner, is_one, || {
                format!("{key} is served by {process} at {epoch}, and was by {before:?}")
            });
        }
        let node = &self.processes[process];
        let is_open = node.alive && !node.frozen && node.ownership.fence().is_open(self.now);
        self.check(Promise::OneOwner, is_open, || format!("{key} is served by {process} behind its fence"));
        self.seen.served += 1;
        !is_astray
    }

    /// Whether a process's lease is over and it cannot know: the others ended it while they could not reach the process, whose
    /// beats do not come to the store, or only since a moment ago.
    pub(crate) fn is_astray(&self, process: usize) -> bool {
        let node = &self.processes[process];
        let lease = node.ownership.lease();
        node.unreached_as.as_ref() == Some(lease)
            && !self.store.lives(lease)
            && (!self.may_write(process) || self.now.saturating_duration_since(node.able_since) < LETS_GO_WITHIN)
    }

    /// Promises 2 to 5: something happened to a session that loses what was under way in it.
    pub(crate) fn check_lost(&mut self, key: &Key, what: &str) {
        let Some(room) = self.room_of(key).filter(|room| !self.rooms[*room].over) else {
            return;
        };
        self.rooms[room].lossy = Some(self.now);
        let goes_on = what.starts_with("taken over");
        // An owner that nobody reaches, and of which the store hears nothing, is dead to all others. Until its host finds a seat and
        // begins it anew, a session that ended for want of one is missing.
        let excuse = if goes_on { self.rooms[room].orphaned } else { self.lacked_seats(key) };
        let may_be = self.profile.may_lose(goes_on) || excuse;
        self.seen.lost_sessions += u64::from(!goes_on);
        self.check(self.promise_to_keep(), may_be, || format!("room {room} ({key}) was {what}"));
    }

    pub(crate) fn note_change(&mut self, key: &Key, change: Change) {
        if let Some(room) = self.room_of(key) {
            (self.rooms[room].change, self.rooms[room].orphaned) = (change, false);
        }
    }

    /// A session is taken from an owner that gave no sign of life.
    pub(crate) fn note_orphaned(&mut self, key: &Key) {
        if let Some(room) = self.room_of(key) {
            self.rooms[room].orphaned = true;
        }
    }

    /// A peer was away for so long that its session goes on without it.
    pub(crate) fn check_given_up(&mut self, key: &Key, client: usize) {
        let is_wanted = self.clients[client].phase != Phase::Done;
        let may_be = !is_wanted || self.profile.may_lose(false);
        self.seen.given_up += u64::from(is_wanted);
        self.clients[client].given_up_at = Some(self.now);
        self.check(self.promise_to_keep(), may_be, || format!("client {client} is given up by {key}, and comes back"));
    }

    /// A peer that its session knew for certain is still there, unless it was a crash of this moment that took it.
    pub(crate) fn check_member(&mut self, room: usize, client: usize) {
        let is_known = self.rooms[room].members.contains(&client);
        let promise = match self.rooms[room].change {
            Change::Begun => Promise::BalancersHoldNothing,
            Change::HandedOff => Promise::OrdersEndNothing,
            Change::TakenOver => Promise::DeathsEndNothing,
        };
        self.check(promise, !is_known, || format!("client {client} finds that its peer in room {room} is gone"));
    }

    /// A client was refused, or heard nothing. Where nothing is wrong, that must not go on for long. Whoever finds a session without a
    /// seat has found it, also if its node ends before it says so.
    pub(crate) fn check_available(&mut self, client: usize) {
        let room = &self.rooms[self.clients[client].room];
        if room.key.is_none() || room.over || self.is_troubled() {
            return;
        }
        let Client { away_since, seatless_at, .. } = self.clients[client];
        let since = away_since.unwrap_or(self.now).max(self.calm_since).max(seatless_at.unwrap_or(self.start));
        let waited = self.now - since;
        self.check(self.promise_to_keep(), waited <= AVAILABLE_WITHIN, || {
            format!("client {client} finds no way to its session for {waited:?}, and nothing is wrong")
        });
    }

    /// Whether anything is wrong at this moment that makes nodes or the store unavailable, or no node takes sessions.
    pub(crate) fn is_troubled(&self) -> bool {
        let is_hurt = |process: &Process| process.alive && (process.frozen || process.apart || !process.has_store);
        let is_store_well = self.store_is_up && self.store_room == StoreRoom::Ample;
        !is_store_well || self.processes.iter().any(is_hurt) || !self.is_any_ready()
    }

    fn is_any_ready(&self) -> bool {
        self.processes.iter().any(|process| process.alive && process.order.is_none())
    }

    /// Something goes wrong, or is mended.
    pub(crate) fn disturbed(&mut self) {
        self.calm_since = self.now;
    }

    /// A process has begun or ended. Where it is the only one that takes sessions, they have to wait for another.
    pub(crate) fn exchanged(&mut self, process: usize) {
        let others = self.processes.iter().enumerate().filter(|(index, _)| *index != process);
        if !others.map(|(_, other)| other).any(|other| other.alive && other.order.is_none()) {
            self.disturbed();
        }
    }

    pub(crate) fn accept(&mut self, key: &Key, sender: usize, number: u64, to: Vec<usize>, at: Instant) {
        if let Some(room) = self.room_of(key) {
            self.accepted.push(Accepted { room, sender, number, to, at });
        }
    }

    /// A message came to a node that did not take it. It may be lost only in a connection that broke.
    pub(crate) fn lose_message(&mut self, connection: usize) {
        let end = &self.connections[connection];
        let excused = end.cut || end.let_go;
        let client = end.client;
        self.seen.messages_lost += 1;
        self.check(Promise::OrdersEndNothing, excused, || format!("a message of client {client} was lost"));
    }

    /// Everything is mended from this moment on.
    pub(crate) fn mended(&mut self) {
        self.mended = Some(self.now);
        for second in 5..90 {
            self.after(Duration::from_secs(second), Event::Settled);
        }
    }

    /// Whether everything is as it should be. If not long after the mending, that is a broken promise.
    pub(crate) fn settled(&mut self) -> bool {
        let Some(mended) = self.mended else {
            return false;
        };
        self.quiet = true;
        let trouble = self.trouble();
        let is_late = self.now - mended >= Duration::from_secs(75);
        if is_late {
            self.check(self.promise_to_keep(), trouble.is_none(), || trouble.clone().unwrap_or_default());
        }
        trouble.is_none() || is_late
    }

    fn trouble(&self) -> Option<String> {
        for (index, client) in self.clients.iter().enumerate() {
            let room = &self.rooms[client.room];
            if room.over || client.phase == Phase::Done {
                continue;
            }
            let Phase::Attached(connection) = client.phase else {
                let is_seatless = |client: &Client| client.seatless_at.is_some();
                if self.is_full() && (is_seatless(client) || is_seatless(&self.clients[room.host])) {
                    continue;
                }
                return Some(format!("client {index} of room {} has no connection", client.room));
            };
            let end = &self.connections[connection];
            let serves = self.processes[end.process].rooms.contains_key(&end.key);
            if !serves || !end.node_open {
                return Some(format!("client {index} is connected to a node without its session"));
            }
        }
        let is_due = |message: &&Accepted| {
            let room = &self.rooms[message.room];
            !room.over && room.lossy.is_none_or(|lossy| lossy < message.at)
        };
        for message in self.accepted.iter().filter(is_due) {
            for to in &message.to {
                let client = &self.clients[*to];
                let is_excused = client.phase == Phase::Done || client.given_up_at.is_some_and(|at| at >= message.at);
                if !is_excused && !client.got.contains(&(message.sender, message.number)) {
                    let Accepted { sender, number, .. } = message;
                    return Some(format!("message {number} of client {sender} never came to client {to}"));
                }
            }
        }
        None
    }
}
