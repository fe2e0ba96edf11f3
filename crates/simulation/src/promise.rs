//! The promises: what must hold after each event, and what must come about in the end.

use std::time::{Duration, Instant};

use ctedge_ownership::Epoch;
use ctedge_wire::Key;

use crate::client::Phase;
use crate::event::Event;
use crate::world::{Profile, World};

/// A message that a session has accepted: its peers will get it.
#[derive(Debug)]
pub(crate) struct Accepted {
    room: usize,
    sender: usize,
    number: u64,
    to: Vec<usize>,
    at: Instant,
}

impl World {
    pub(crate) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// Promise 1: what a node serves is its own, and nobody else has served it at that epoch or a later one.
    pub(crate) fn check_serving(&mut self, process: usize, key: &Key, epoch: Epoch) {
        let before = self.served.insert(key.clone(), (epoch, process));
        let is_one = before.is_none_or(|(last, by)| last < epoch || (last == epoch && by == process));
        self.check(is_one, || format!("{key} is served by {process} at {epoch}, and was by {before:?}"));
        let node = &self.processes[process];
        let is_open = node.alive && !node.frozen && node.ownership.fence().is_open(self.now);
        self.check(is_open, || format!("{key} is served by {process} behind its fence"));
        self.seen.served += 1;
    }

    /// Promises 2 to 5: something happened to a session that loses what was under way in it.
    pub(crate) fn check_lost(&mut self, key: &Key, what: &str) {
        let Some(room) = self.room_of(key).filter(|room| !self.rooms[*room].over) else {
            return;
        };
        self.rooms[room].lossy = Some(self.now);
        let goes_on = what.starts_with("taken over");
        let may_be = match self.profile {
            Profile::Operated => false,
            Profile::OneFault => goes_on,
            Profile::Storm => true,
        };
        self.seen.lost_sessions += u64::from(!goes_on);
        self.check(may_be, || format!("room {room} ({key}) was {what}"));
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
        self.check(excused, || format!("a message of client {client} was lost"));
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
            self.check(trouble.is_none(), || trouble.clone().unwrap_or_default());
        }
        trouble.is_none() || is_late
    }

    fn trouble(&self) -> Option<String> {
        for (index, client) in self.clients.iter().enumerate() {
            let room = &self.rooms[client.room];
            if room.over {
                continue;
            }
            let Phase::Attached(connection) = client.phase else {
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
                if !self.clients[*to].got.contains(&(message.sender, message.number)) {
                    let Accepted { sender, number, .. } = message;
                    return Some(format!("message {number} of client {sender} never came to client {to}"));
                }
            }
        }
        None
    }
}
