//! Sessions leave for other nodes, and come from them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_protocol::http::JoinPoll;
use ctedge_session::{EstateError, Session, StoredPeer};
use ctedge_wire::{Key, KeyedToken};
use serde::{Deserialize, Serialize};

use super::Hub;
use super::cell::SessionCell;
use super::table::Insertion;

/// A session as it is given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// For the next owner alone.
    pub estate: Bytes,
    /// What is stored of its peers, ordered by clock.
    pub peers: Vec<StoredPeer>,
    /// What is stored of its requests in flight; empty when there are none.
    pub in_flight: Bytes,
}

/// An answer to a join request, on its way to where the session goes.
#[derive(Serialize, Deserialize)]
struct PackedAnswer {
    token: String,
    answer: JoinPoll,
    left: Duration,
}

/// Why a session that another owner wrote down is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// It cannot be read.
    #[error("the session cannot be taken in: {0}")]
    Estate(#[from] EstateError),
    /// It is of another key.
    #[error("the session is of another key")]
    WrongKey,
    /// There is one under its key.
    #[error("there is a session under this key")]
    InUse,
    /// The node has as many sessions as it may have.
    #[error("the node is full")]
    Full,
}

impl Hub {
    /// Closes the session's transports politely, reads on until they are gone, and writes it down. They are cut after `within`,
    /// and sooner if nothing comes from them for some seconds. From the first moment nobody new is let in. The session stays here, at rest, until [`Self::let_go`] or
    /// [`Self::cancel_move`]. `None` when there is none, or it has finished or was let go, or its move was cancelled, meanwhile.
    pub async fn export(self: &Arc<Self>, key: &Key, within: Duration) -> Option<Export> {
        let cell = self.sessions.find(key)?;
        let ready = cell.begin_move(self, within);
        ready.await.ok()?;
        // What waits for the gate goes along: no transport is left that it could reach from here, and the store decides
        // whether this estate counts.
        cell.release_held(self);
        if let Some((transports, reason)) = cell.cut_short() {
            let reason = reason.as_str();
            self.metrics.transports_cut.with_label_values(&[reason]).inc_by(transports as u64);
            tracing::warn!(session = %key, transports, reason, "connections were cut before their clients had closed them");
        }
        cell.export(self.pack_answers(key))
    }

    /// There is no time left after `by` for the connections of sessions that are on their way already.
    pub(crate) fn hasten_moves(&self, by: Instant) {
        for cell in self.sessions.all() {
            cell.hasten_move(self, by);
        }
    }

    /// The session stays after all.
    pub fn cancel_move(self: &Arc<Self>, key: &Key) {
        if let Some(cell) = self.sessions.find(key) {
            cell.cancel_move(self);
        }
    }

    /// Forgets a session that is not this node's any more. Transports that are left are cut; their clients come back to
    /// whoever owns it.
    pub fn let_go(self: &Arc<Self>, key: &Key) {
        if let Some(cell) = self.sessions.find(key) {
            cell.let_go(self);
            // Who polls for an answer asks again.
            self.joins.take_of(key, Instant::now());
        }
    }

    /// Takes in a session that another owner wrote down, with so many `peers`, and that this node owns since `epoch`.
    pub fn adopt(self: &Arc<Self>, key: &Key, estate: &[u8], peers: usize, epoch: u64) -> Result<(), AdoptError> {
        let now = Instant::now();
        let (session, luggage) = Session::from_estate(estate, self.session_limits(), now)?;
        if session.key() != key {
            return Err(AdoptError::WrongKey);
        }
        for (token, until) in session.waiting_joins() {
            // A join that finds no room here is asked again by whoever polls in vain.
            if self.joins.open(token.clone(), now).is_ok() {
                self.joins.end_by(token, until + super::JOIN_ANSWER_KEPT);
            }
        }
        self.unpack_answers(&luggage, now);
        self.keep_whatever(session, peers, epoch).map(drop)
    }

    /// The answers to join requests that nobody has fetched yet.
    fn pack_answers(&self, key: &Key) -> Bytes {
        let decided = self.joins.decided_of(key, Instant::now());
        let packed: Vec<PackedAnswer> = decided
            .into_iter()
            .map(|(token, answer, left)| PackedAnswer { token: token.as_str().to_owned(), answer, left })
            .collect();
        // Writing plain data into memory cannot fail.
        serde_json::to_vec(&packed).unwrap_or_default().into()
    }

    /// What cannot be read, or finds no room, is asked for again by whoever polls in vain.
    fn unpack_answers(&self, packed: &[u8], now: Instant) {
        let packed: Vec<PackedAnswer> = serde_json::from_slice(packed).unwrap_or_default();
        for PackedAnswer { token, answer, left } in packed {
            if let Some(token) = KeyedToken::parse(&token)
                && self.joins.open(token.clone(), now).is_ok()
            {
                self.joins.decide(&token, answer, now);
                self.joins.end_by(&token, now + left.min(super::JOIN_ANSWER_KEPT));
            }
        }
    }

    /// Puts a session into the table that was one before. Beyond the node's bound it is kept all the same: it was within
    /// it elsewhere, and is lost otherwise. The seats of all `peers` came along, also of those who are not in it any more.
    pub(super) fn keep_whatever(
        self: &Arc<Self>,
        session: Session,
        peers: usize,
        epoch: u64,
    ) -> Result<Arc<SessionCell>, AdoptError> {
        let key = session.key().clone();
        let cell = SessionCell::new(session, epoch, peers);
        self.seats.sit(peers);
        if !self.sessions.insert_whatever(&key, &cell) {
            self.seats.leave(peers, None);
            return Err(AdoptError::InUse);
        }
        cell.begun(self);
        Ok(cell)
    }

    /// Puts a session into the table.
    pub(super) fn keep(self: &Arc<Self>, session: Session, epoch: u64) -> Result<Arc<SessionCell>, AdoptError> {
        let key = session.key().clone();
        match self.sessions.insert(&key, || SessionCell::new(session, epoch, 0)) {
            Insertion::Inserted(cell) => {
                cell.begun(self);
                Ok(cell)
            }
            Insertion::InUse => Err(AdoptError::InUse),
            Insertion::Full => Err(AdoptError::Full),
        }
    }
}
