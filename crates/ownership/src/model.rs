//! The store as it must behave: every command, in memory, at once.
//!
//! It is the specification of the real stores, which are held against it with random commands, and what the simulations
//! run on. It is pure and has no bounds of its own.

mod seats;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use ctedge_wire::{Key, NodeStatus};

use crate::command::{Command, ESTATES_PER_BEAT_MAX, Estate, Outcome, REAPED_MAX};
use crate::drain::HandoffReason;
use crate::id::{Epoch, LeaseId};
use crate::record::{Lease, LeaseEnd, Legacy, Record, StoredPeer};
use seats::SeatsOf;

/// A store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct StoreModel {
    leases: BTreeMap<LeaseId, Lease>,
    rows: BTreeMap<Key, Row>,
    seats: BTreeMap<LeaseId, SeatsOf>,
    last_epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Row {
    owner: LeaseId,
    epoch: Epoch,
    legacy: Legacy,
}

impl StoreModel {
    /// Executes one command.
    pub fn execute(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Register { lease, address, pid: _ } => self.register(lease, *address),
            Command::Beat { lease, status, report } => self.beat(lease, *status, report),
            Command::EndLease { lease, beat, why } => self.end_lease(lease, *beat, *why),
            Command::Look { key } => self.record(key).map_or(Outcome::Missing, Outcome::Found),
            Command::Create { key, by } => self.create(key, by),
            Command::TakeOver { key, from, by } => self.take_over(key, *from, by),
            Command::Read { key, epoch, by } => self.owned(key, *epoch, by, |row| row.read()),
            Command::Adopt { key, epoch, by } => self.owned(key, *epoch, by, |row| {
                (row.legacy.estate, row.legacy.given) = (None, None);
                Outcome::Adopted
            }),
            Command::HandOff { key, epoch, by, to, estate, reason } => {
                self.hand_off(key, *epoch, by, to.as_ref(), estate, *reason)
            }
            Command::Keep { key, epoch, by, peers, in_flight } => self.keep(key, *epoch, by, peers, in_flight.as_ref()),
            Command::Delete { key, epoch, by } => self.delete(key, *epoch, by),
            Command::Reap { lease } => self.reap(lease),
        }
    }

    /// The key's record.
    #[must_use]
    pub fn record(&self, key: &Key) -> Option<Record> {
        let row = self.rows.get(key)?;
        Some(Record {
            key: key.clone(),
            owner: row.owner.clone(),
            epoch: row.epoch,
            owner_ended: self.end_of(&row.owner),
            owner_address: self.leases.get(&row.owner).map(|lease| lease.address),
            has_estate: row.legacy.estate.is_some(),
        })
    }

    /// All leases, ordered by id.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// All keys that have a record, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.rows.keys()
    }

    /// What lies at the key's record.
    #[must_use]
    pub fn legacy(&self, key: &Key) -> Option<&Legacy> {
        self.rows.get(key).map(|row| &row.legacy)
    }

    /// Lets `write` change what is known of the session, as the journal does: `by` must own the key at `epoch` and live.
    /// Returns whether it did.
    pub fn journal(&mut self, key: &Key, epoch: Epoch, by: &LeaseId, write: impl FnOnce(&mut Legacy)) -> bool {
        let owns = self.lives(by) && self.rows.get(key).is_some_and(|row| row.is_owned(by, epoch));
        if let Some(row) = self.rows.get_mut(key).filter(|_| owns) {
            write(&mut row.legacy);
        }
        owns
    }

    /// Whether the lease is there and has not ended.
    #[must_use]
    pub fn lives(&self, lease: &LeaseId) -> bool {
        self.end_of(lease).is_none()
    }

    /// Why the lease is over, if it is.
    fn end_of(&self, lease: &LeaseId) -> Option<LeaseEnd> {
        self.leases.get(lease).map_or(Some(LeaseEnd::Unknown), |lease| lease.ended)
    }

    fn register(&mut self, id: &LeaseId, address: SocketAddr) -> Outcome {
        if let Some(lease) = self.leases.get(id) {
            return if lease.ended.is_some() { Outcome::LeaseEnded } else { Outcome::Registered };
        }
        let (id, report) = (id.clone(), String::new());
        let lease = Lease { id: id.clone(), address, beat: 0, status: NodeStatus::Ready, ended: None, report };
        self.leases.insert(id, lease);
        Outcome::Registered
    }

    fn beat(&mut self, id: &LeaseId, status: NodeStatus, report: &str) -> Outcome {
        let Some(lease) = self.leases.get_mut(id).filter(|lease| lease.ended.is_none()) else {
            return Outcome::LeaseEnded;
        };
        lease.beat += 1;
        lease.status = status;
        report.clone_into(&mut lease.report);
        let waits = |(_, row): &(&Key, &Row)| row.owner == *id && row.legacy.estate.is_some();
        let estates = self.rows.iter().filter(waits).map(|(key, row)| (key.clone(), row.epoch));
        let estates = estates.take(ESTATES_PER_BEAT_MAX).collect();
        Outcome::Beaten { leases: self.leases.values().cloned().collect(), estates }
    }

    fn end_lease(&mut self, id: &LeaseId, beat: Option<u64>, why: LeaseEnd) -> Outcome {
        if let Some(lease) = self.leases.get_mut(id).filter(|lease| lease.ended.is_none()) {
            if beat.is_some_and(|beat| beat != lease.beat) {
                return Outcome::Beating;
            }
            lease.ended = Some(why);
        }
        Outcome::Ended
    }

    fn create(&mut self, key: &Key, by: &LeaseId) -> Outcome {
        if !self.lives(by) {
            return Outcome::LeaseEnded;
        }
        if let Some(record) = self.record(key) {
            return Outcome::Taken(record);
        }
        let (epoch, legacy) = (self.next_epoch(), Legacy::default());
        let row = Row { owner: by.clone(), epoch, legacy };
        let outcome = row.read();
        self.rows.insert(key.clone(), row);
        outcome
    }

    fn take_over(&mut self, key: &Key, from: Epoch, by: &LeaseId) -> Outcome {
        if !self.lives(by) {
            return Outcome::LeaseEnded;
        }
        let may = |record: &Record| record.epoch == from && record.owner_ended.is_some();
        if !self.record(key).is_some_and(|record| may(&record)) {
            return Outcome::Lost(self.record(key));
        }
        let epoch = self.next_epoch();
        self.move_seats(None, by, self.legacy(key).map_or(0, |legacy| legacy.peers.len()));
        self.change(key, |row| {
            (row.owner, row.epoch) = (by.clone(), epoch);
            row.read()
        })
    }

    fn hand_off(
        &mut self,
        key: &Key,
        epoch: Epoch,
        by: &LeaseId,
        to: Option<&LeaseId>,
        estate: &Estate,
        reason: HandoffReason,
    ) -> Outcome {
        if let Some(refusal) = self.refusal(key, epoch, by) {
            return refusal;
        }
        if to.is_some_and(|to| !self.lives(to)) {
            return Outcome::TargetEnded;
        }
        let epoch = self.next_epoch();
        self.move_seats(Some(by), to.unwrap_or(by), estate.peers.len());
        self.change(key, |row| {
            (row.owner, row.epoch) = (to.unwrap_or(by).clone(), epoch);
            let Estate { bytes, peers, in_flight } = estate.clone();
            row.legacy = Legacy { estate: Some(bytes), given: Some(reason), peers, in_flight };
            Outcome::HandedOff { epoch }
        })
    }

    fn keep(
        &mut self,
        key: &Key,
        epoch: Epoch,
        by: &LeaseId,
        peers: &[StoredPeer],
        in_flight: Option<&Bytes>,
    ) -> Outcome {
        if let Some(refusal) = self.refusal(key, epoch, by) {
            return refusal;
        }
        let epoch = self.next_epoch();
        self.change(key, |row| {
            row.epoch = epoch;
            row.legacy = Legacy { peers: peers.to_vec(), in_flight: in_flight.cloned(), ..Legacy::default() };
            Outcome::Kept { epoch }
        })
    }

    fn delete(&mut self, key: &Key, epoch: Epoch, by: &LeaseId) -> Outcome {
        match self.refusal(key, epoch, by) {
            Some(Outcome::Lost(None)) => Outcome::Deleted,
            Some(refusal) => refusal,
            None => {
                self.rows.remove(key);
                Outcome::Deleted
            }
        }
    }

    fn reap(&mut self, id: &LeaseId) -> Outcome {
        if self.lives(id) {
            return Outcome::Reaped { keys: Vec::new(), all: false };
        }
        let its_own = self.rows.iter().filter(|(_, row)| row.owner == *id);
        let keys: Vec<Key> = its_own.map(|(key, _)| key.clone()).take(REAPED_MAX).collect();
        for key in &keys {
            self.rows.remove(key);
        }
        let all = !self.rows.values().any(|row| row.owner == *id);
        if all {
            self.leases.remove(id);
            self.seats.remove(id);
        }
        Outcome::Reaped { keys, all }
    }

    /// Why `by` may not change the key's record at that epoch, if so.
    fn refusal(&self, key: &Key, epoch: Epoch, by: &LeaseId) -> Option<Outcome> {
        if !self.lives(by) {
            return Some(Outcome::LeaseEnded);
        }
        let owns = self.rows.get(key).is_some_and(|row| row.is_owned(by, epoch));
        (!owns).then(|| Outcome::Lost(self.record(key)))
    }

    fn owned(&mut self, key: &Key, epoch: Epoch, by: &LeaseId, change: impl FnOnce(&mut Row) -> Outcome) -> Outcome {
        match self.refusal(key, epoch, by) {
            Some(refusal) => refusal,
            None => self.change(key, change),
        }
    }

    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Row) -> Outcome) -> Outcome {
        self.rows.get_mut(key).map_or(Outcome::Lost(None), change)
    }

    fn next_epoch(&mut self) -> Epoch {
        self.last_epoch += 1;
        Epoch(self.last_epoch)
    }
}

impl Row {
    fn is_owned(&self, by: &LeaseId, epoch: Epoch) -> bool {
        self.owner == *by && self.epoch == epoch
    }

    fn read(&self) -> Outcome {
        Outcome::Owned { epoch: self.epoch, legacy: self.legacy.clone() }
    }
}
