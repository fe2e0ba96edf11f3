//! Who has joined and left, written behind the messages and noted before; and what is in the store for certain by then.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, StoredPeer};
use ctedge_wire::Key;

use crate::event::Event;
use crate::fault::Fault;
use crate::promise::Promise;
use crate::world::{Room, World};

/// How long the journal gathers.
const GATHERS_FOR: Duration = Duration::from_millis(20);
/// How long it waits for the store before it tries again.
const TRIES_EVERY: Duration = Duration::from_millis(500);
/// After what time without trouble it is written who has joined or left. Only a crash within that may take it, and only if the
/// lease is not ended on the machine that has the notes.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// A peer that has come or gone.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    key: Key,
    epoch: Epoch,
    by: LeaseId,
    client: usize,
    leaves: bool,
    /// Whether the seat of one who left is still taken.
    pub(crate) holds_seat: bool,
    since: Instant,
}

impl World {
    /// A peer has joined a session that the process owns since `epoch`.
    pub(crate) fn joined(&mut self, process: usize, key: &Key, epoch: Epoch, client: usize) {
        if let Some(room) = self.room_of(key) {
            self.rooms[room].gone.remove(&client);
        }
        self.enter(process, key, epoch, client, false);
    }

    /// A peer has left it.
    pub(crate) fn left(&mut self, process: usize, key: &Key, epoch: Epoch, client: usize) {
        if let Some(room) = self.room_of(key) {
            self.rooms[room].members.remove(&client);
        }
        self.enter(process, key, epoch, client, true);
    }

    fn enter(&mut self, process: usize, key: &Key, epoch: Epoch, client: usize, leaves: bool) {
        let (since, node) = (self.now, &mut self.processes[process]);
        let (key, by) = (key.clone(), node.ownership.lease().clone());
        let entry = Entry { key, epoch, by, client, leaves, holds_seat: leaves, since };
        node.unsure.push(entry.clone());
        node.journal.push_back(entry);
        self.after(GATHERS_FOR, Event::Journal { process });
    }

    /// Writes the next entry.
    pub(crate) fn write_journal(&mut self, process: usize) {
        if self.processes[process].journal.is_empty() {
            return;
        }
        if !self.may_write(process) {
            self.after(TRIES_EVERY, Event::Journal { process });
            return;
        }
        let Some(entry) = self.processes[process].journal.pop_front() else { return };
        if entry.holds_seat {
            self.free_seat(process);
        }
        if self.breaks(if entry.leaves { Fault::NeverJournalsLeaving } else { Fault::NeverJournals }) {
            return;
        }
        let Entry { key, epoch, by, leaves, .. } = &entry;
        // Who leaves with a session may leave after it.
        let is_over = *leaves && self.store.record(key).is_none();
        if !self.store_entry(&entry) && self.store.lives(by) && !is_over {
            self.processes[process].ownership.fenced(key, *epoch, self.now);
            self.carry_out(process);
        }
    }

    /// Puts an entry into the store. `false` if it is not its writer's to say.
    fn store_entry(&mut self, Entry { key, epoch, by, client, leaves, .. }: &Entry) -> bool {
        let (user, handshake) = (String::new(), Bytes::new());
        let peer = StoredPeer { clock: *client as u64, host: false, user, handshake };
        self.store.journal(key, *epoch, by, |legacy| {
            legacy.peers.retain(|known| known.clock != peer.clock);
            if !leaves {
                legacy.peers.push(peer);
                legacy.peers.sort_by_key(|peer| peer.clock);
            }
        })
    }

    /// Whoever ends the lease of a dead process of the same machine finds what the process had noted. With that the store has
    /// everything.
    pub(crate) fn bring_in_notes(&mut self, lease: &LeaseId) {
        let Some(process) = self.process_of(lease).filter(|_| self.store.lives(lease)) else {
            return;
        };
        for entry in std::mem::take(&mut self.processes[process].journal) {
            if !self.breaks(Fault::NeverNotes) {
                self.store_entry(&entry);
            }
        }
        for Entry { key, epoch, by, client, leaves, .. } in std::mem::take(&mut self.processes[process].unsure) {
            let is_owner = self.store.record(&key).is_some_and(|record| record.owner == by && record.epoch == epoch);
            let Some(room) = self.room_of(&key).filter(|_| is_owner && by == *lease) else {
                continue;
            };
            let Room { members, gone, .. } = &mut self.rooms[room];
            let (into, out_of) = if leaves { (gone, members) } else { (members, gone) };
            into.insert(client);
            out_of.remove(&client);
        }
    }

    /// Notes what must have been written by this time, whatever the journal did.
    pub(crate) fn note_written(&mut self, process: usize) {
        // What a node writes after its lease has ended is refused.
        let is_over = !self.processes[process].is_open(self.now) || self.is_astray(process);
        if !self.may_write(process) || is_over {
            return;
        }
        let (now, node) = (self.now, &mut self.processes[process]);
        let able_since = node.able_since;
        let is_due = |entry: &Entry| now.saturating_duration_since(entry.since.max(able_since)) >= WRITTEN_WITHIN;
        let due: Vec<Entry> = node.unsure.extract_if(.., |entry| is_due(entry)).collect();
        for Entry { key, epoch, client, leaves, .. } in due {
            let live = self.processes[process].rooms.get(&key).filter(|live| live.epoch == epoch);
            let Some((live, room)) = live.zip(self.room_of(&key)) else {
                continue;
            };
            // Who has come and gone within the time is there, or is not, by now.
            match (leaves, live.peers.contains_key(&client)) {
                (false, true) => self.rooms[room].members.insert(client),
                (true, false) => self.rooms[room].gone.insert(client),
                _ => false,
            };
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
            self.rooms[room].gone.clear();
        }
        self.seated.remove(key);
    }

    /// Who has left for certain does not come back with a takeover.
    pub(crate) fn check_gone(&mut self, key: &Key, peers: &[StoredPeer]) {
        let Some(room) = self.room_of(key) else {
            return;
        };
        let back = peers.iter().map(|peer| peer.clock as usize).find(|client| self.rooms[room].gone.contains(client));
        self.check(Promise::DeathsEndNothing, back.is_none(), || {
            format!("client {back:?} left {key}, and is there again")
        });
    }
}
