//! What a node asks of the store. Each command is one atomic transaction.
//!
//! [`crate::model::StoreModel`] executes the same commands in memory and is their specification: where these comments and
//! the model differ, the model is right.
//!
//! Rules for all of them:
//!
//! - A command `by` a lease that has ended, or that the store does not know, changes nothing: [`Outcome::LeaseEnded`]. This is
//!   the fence in the store. It is checked in the same transaction.
//! - What changes a record compares its epoch (and that `by` owns it) in the same transaction. Otherwise nothing
//!   changes: [`Outcome::Lost`].
//! - The store may execute a command whose answer was lost, and may execute it late. Whoever got no answer sends the
//!   same command again: all of them can be repeated, and the answers say what became of an earlier try.

use std::net::SocketAddr;

use bytes::Bytes;
use ctedge_wire::{Key, NodeStatus};

use crate::drain::HandoffReason;
use crate::id::{Epoch, LeaseId};
use crate::record::{Lease, LeaseEnd, Legacy, Record, StoredPeer};

/// How many estates one heartbeat answers at most. More are waiting at the next one.
pub const ESTATES_PER_BEAT_MAX: usize = 256;

/// How many records one [`Command::Reap`] deletes at most.
pub const REAPED_MAX: usize = 256;

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Begins a lease: beat 0, ready, an empty report. Of a lease that is already there nothing is changed.
    ///
    /// It ends no other lease: executed late, it would end that of a living process. Who has bound an address and finds
    /// a lease of another there ends that one by [`Command::EndLease`] with the beat that it saw.
    ///
    /// → [`Outcome::Registered`], or [`Outcome::LeaseEnded`] if this very lease is there and ended.
    Register {
        /// The lease to begin.
        lease: LeaseId,
        /// Where the node listens, bound already.
        address: SocketAddr,
        /// The process id, for people.
        pid: u32,
    },
    /// A heartbeat: adds one to the lease's beat and writes status and report.
    ///
    /// → [`Outcome::Beaten`] or [`Outcome::LeaseEnded`].
    Beat {
        /// The lease that lives.
        lease: LeaseId,
        /// What its node takes.
        status: NodeStatus,
        /// What its node says of itself.
        report: String,
    },
    /// Ends a lease for ever. Its records stay, to be taken over.
    ///
    /// → [`Outcome::Ended`], also if it had ended before or is not known; [`Outcome::Beating`] if `beat` is given and the lease
    /// lives at another beat.
    EndLease {
        /// The lease to end.
        lease: LeaseId,
        /// The beat at which it was found silent. `None`: it is certain that the process is gone.
        beat: Option<u64>,
        /// Why.
        why: LeaseEnd,
    },
    /// Who owns the key?
    ///
    /// → [`Outcome::Found`] or [`Outcome::Missing`].
    Look {
        /// The key.
        key: Key,
    },
    /// Inserts a record at a fresh epoch, without estate, peers and requests in flight.
    ///
    /// → [`Outcome::Owned`] with an empty legacy; [`Outcome::Taken`] if there is a record, whoever owns it;
    /// [`Outcome::LeaseEnded`].
    Create {
        /// The key.
        key: Key,
        /// The owner to be.
        by: LeaseId,
    },
    /// Takes the key from an owner whose lease has ended: owner `by`, a fresh epoch. Peers, requests in flight and estate
    /// stay where they are and are returned.
    ///
    /// → [`Outcome::Owned`]; [`Outcome::Lost`] if the record is not at epoch `from`, its owner's lease has not ended, or there is none;
    /// [`Outcome::LeaseEnded`].
    TakeOver {
        /// The key.
        key: Key,
        /// The epoch at which the owner was found ended.
        from: Epoch,
        /// The owner to be.
        by: LeaseId,
    },
    /// Reads what lies at a record that `by` owns: an estate that was handed to it, or what it took over without hearing
    /// the answer. Changes nothing.
    ///
    /// → [`Outcome::Owned`] with the same epoch; [`Outcome::Lost`]; [`Outcome::LeaseEnded`].
    Read {
        /// The key.
        key: Key,
        /// The epoch at which `by` owns it.
        epoch: Epoch,
        /// The owner.
        by: LeaseId,
    },
    /// Takes up an estate: removes it from the record. The owner sends this after it has read the estate and before it
    /// serves the session, so that the estate is lost by no crash before, and used by no next owner after.
    ///
    /// → [`Outcome::Adopted`], also if there is none; [`Outcome::Lost`]; [`Outcome::LeaseEnded`].
    Adopt {
        /// The key.
        key: Key,
        /// The epoch at which `by` owns it.
        epoch: Epoch,
        /// The owner.
        by: LeaseId,
    },
    /// Gives the session away: owner `to`, a fresh epoch, the estate stored, peers and requests in flight replaced by
    /// what is given. With `to: None` the session is *parked*: it stays with `by`, whose lease will end soon.
    ///
    /// → [`Outcome::HandedOff`]; [`Outcome::TargetEnded`] if `to` has ended or is not known, and nothing is changed;
    /// [`Outcome::Lost`]; [`Outcome::LeaseEnded`].
    HandOff {
        /// The key.
        key: Key,
        /// The epoch at which `by` owns it.
        epoch: Epoch,
        /// The owner.
        by: LeaseId,
        /// The owner to be.
        to: Option<LeaseId>,
        /// The session, complete.
        estate: Estate,
        /// Why.
        reason: HandoffReason,
    },
    /// Keeps a session that was to be given away: it stays with `by` at a fresh epoch, so that no [`Self::HandOff`] of
    /// `epoch` that is still under way can give it away any more. Peers and requests in flight are replaced by what is
    /// given; there is no estate.
    ///
    /// → [`Outcome::Kept`]; [`Outcome::Lost`]; [`Outcome::LeaseEnded`].
    Keep {
        /// The key.
        key: Key,
        /// The epoch at which `by` owns it.
        epoch: Epoch,
        /// The owner.
        by: LeaseId,
        /// Its peers, ordered by clock.
        peers: Vec<StoredPeer>,
        /// Its requests in flight.
        in_flight: Option<Bytes>,
    },
    /// Deletes the record with all that belongs to it: the session is over.
    ///
    /// → [`Outcome::Deleted`], also if there is no record of the key; [`Outcome::Lost`]; [`Outcome::LeaseEnded`].
    Delete {
        /// The key.
        key: Key,
        /// The epoch at which `by` owns it.
        epoch: Epoch,
        /// The owner.
        by: LeaseId,
    },
    /// Deletes records of a lease that ended long ago, at most [`REAPED_MAX`] of them, and the lease itself once nothing is
    /// left of it. A lease that has not ended loses nothing.
    ///
    /// → [`Outcome::Reaped`].
    Reap {
        /// The lease.
        lease: LeaseId,
    },
}

impl Command {
    /// The lease that gives the command, where it is one's own: a command by a lease that is over changes nothing.
    #[must_use]
    pub fn given_by(&self) -> Option<&LeaseId> {
        match self {
            Self::Register { lease, .. } | Self::Beat { lease, .. } => Some(lease),
            Self::Create { by, .. } | Self::TakeOver { by, .. } | Self::Read { by, .. } => Some(by),
            Self::Adopt { by, .. } | Self::HandOff { by, .. } | Self::Keep { by, .. } | Self::Delete { by, .. } => {
                Some(by)
            }
            Self::EndLease { .. } | Self::Look { .. } | Self::Reap { .. } => None,
        }
    }
}

/// A session as its owner gives it away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Estate {
    /// The session, for the next owner alone.
    pub bytes: Bytes,
    /// Its peers, ordered by clock, in case that the next owner dies: what the journal had not written yet is in here.
    pub peers: Vec<StoredPeer>,
    /// Its requests in flight, for the same case.
    pub in_flight: Option<Bytes>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The lease lives.
    Registered,
    /// The heartbeat counts.
    Beaten {
        /// All leases, one's own and ended ones that have not been reaped yet included, ordered by id.
        leases: Vec<Lease>,
        /// Records of this lease at which an estate lies, ordered by key, at most [`ESTATES_PER_BEAT_MAX`].
        estates: Vec<(Key, Epoch)>,
    },
    /// The lease is over.
    Ended,
    /// The lease is not silent: it has beaten since.
    Beating,
    /// The key's record.
    Found(Record),
    /// There is no record of the key.
    Missing,
    /// `by` owns the key.
    Owned {
        /// Since when.
        epoch: Epoch,
        /// What is known of the session.
        legacy: Legacy,
    },
    /// There is a record already: this one.
    Taken(Record),
    /// Nothing was changed: the record is not what the command took it for. This is what it is, `None` without any.
    Lost(Option<Record>),
    /// Nothing was changed: the lease that gave the command is over.
    LeaseEnded,
    /// The estate belongs to the session in memory.
    Adopted,
    /// The key has a next owner.
    HandedOff {
        /// Since when.
        epoch: Epoch,
    },
    /// The key stays with its owner.
    Kept {
        /// Since when, to the store.
        epoch: Epoch,
    },
    /// Nothing was changed: the owner to be is over.
    TargetEnded,
    /// The record is gone.
    Deleted,
    /// Sessions that nobody came back for.
    Reaped {
        /// Their keys, in order.
        keys: Vec<Key>,
        /// Whether there is nothing left of the lease.
        all: bool,
    },
}

/// Why there is no outcome. The command may have been executed all the same, or may be yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreFailure {
    /// There is no way to the store.
    #[error("the store cannot be reached")]
    Unreachable,
    /// The store did not answer in time, or too many commands were waiting for it.
    #[error("the store is too slow")]
    Slow,
    /// The store has no room left to write.
    #[error("the store is full")]
    Full,
    /// The store refused in a way that is no fault of its load: a broken file, missing rights, a wrong schema.
    #[error("the store failed")]
    Broken,
}
