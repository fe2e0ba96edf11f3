//! Who has joined, written behind the messages; and who is in the store for certain by then.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, StoredPeer};
use ctedge_wire::Key;

use crate::event::Event;
use crate::fault::Fault;
use crate::world::World;

/// How long the journal gathers.
const GATHERS_FOR: Duration = Duration::from_millis(20);
/// How long it waits for the store before it tries again.
const TRIES_EVERY: Duration = Duration::from_millis(500);
/// After what time without trouble a peer that joined is written down. Only a crash within that may take it.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// A journal entry.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    key: Key,
    epoch: Epoch,
    by: LeaseId,
    client: usize,
}

/// A peer that may not be written down yet.
#[derive(Debug)]
pub(crate) struct Joining {
    key: Key,
    epoch: Epoch,
    client: usize,
    since: Instant,
}

impl World {
    /// A peer has joined a session that the process owns since `epoch`.
    pub(crate) fn joined(&mut self, process: usize, key: &Key, epoch: Epoch, client: usize) {
        let since = self.now;
        let node = &mut self.processes[process];
        node.joining.push(Joining { key: key.clone(), epoch, client, since });
        let by = node.ownership.lease().clone();
        node.journal.push_back(Joined { key: key.clone(), epoch, by, client });
        self.after(GATHERS_FOR, Event::Journal { process });
    }

    /// Writes the next entry.
    pub(crate) fn write_journal(&mut self, process: usize) {
        let Some(Joined { key, epoch, by, client }) = self.processes[process].journal.front().cloned() else {
            return;
        };
        if !self.reaches_store(process) {
            self.after(TRIES_EVERY, Event::Journal { process });
            return;
        }
        self.processes[process].journal.pop_front();
        if self.breaks(Fault::NeverJournals) {
            return;
        }
        let (user, handshake) = (String::new(), Bytes::new());
        let peer = StoredPeer { clock: client as u64, host: false, user, handshake };
        let is_owner = self.store.journal(&key, epoch, &by, |legacy| {
            if legacy.peers.iter().all(|known| known.clock != peer.clock) {
                legacy.peers.push(peer);
                legacy.peers.sort_by_key(|peer| peer.clock);
            }
        });
        if !is_owner && self.store.lives(&by) {
            self.processes[process].ownership.fenced(&key, epoch, self.now);
            self.carry_out(process);
        }
    }

    /// Notes whose joining must have been written by this time, whatever the journal did.
    pub(crate) fn note_written(&mut self, process: usize) {
        if !self.reaches_store(process) {
            return;
        }
        let (now, node) = (self.now, &mut self.processes[process]);
        let able_since = node.able_since;
        let is_due = |joining: &Joining| now.saturating_duration_since(joining.since.max(able_since)) >= WRITTEN_WITHIN;
        let due: Vec<Joining> = node.joining.extract_if(.., |joining| is_due(joining)).collect();
        for Joining { key, epoch, client, .. } in due {
            let is_here = self.processes[process].rooms.get(&key).is_some_and(|live| live.epoch == epoch);
            if let Some(room) = self.room_of(&key).filter(|_| is_here) {
                self.rooms[room].members.insert(client);
            }
        }
    }

    /// The session is in the store as it was exported: with all its peers.
    pub(crate) fn note_handed(&mut self, key: &Key) {
        if let Some(room) = self.room_of(key) {
            let exported = std::mem::take(&mut self.rooms[room].exported);
            self.rooms[room].members.extend(exported);
        }
    }

    /// Nobody has a peer in a session that is over or has just been created.
    pub(crate) fn note_empty(&mut self, key: &Key) {
        if let Some(room) = self.room_of(key) {
            self.rooms[room].members.clear();
        }
        self.seated.remove(key);
    }
}
