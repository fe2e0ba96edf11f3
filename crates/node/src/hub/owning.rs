//! Which sessions this node has, and what it does about those that it does not have.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ctedge_ownership::{NodeId, StoredPeer, Unavailable, Verdict, Wants};
use ctedge_session::{Beginning, ResumeError, Session};
use ctedge_store::JournalMark;
use ctedge_wire::{Key, Redirect};

use super::Hub;
use super::cell::SessionCell;
use crate::clock::{awake_or_not, random, unix_now};
use crate::ownership::{Answer, Journal, session_peer};

/// How old a request may become before it is written that it is in flight. Until then it is noted on this machine alone, and a
/// client waits without end for the answer if that is lost as well, so that it is short; requests that are answered within it
/// cost the store nothing.
const IN_FLIGHT_GATHER: Duration = Duration::from_millis(20);

/// Why a session is not served here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotHere {
    /// The request belongs to another key than it was placed by.
    OtherKey(Key),
    /// Another node owns the session.
    Elsewhere {
        /// The owner's id.
        node: String,
        /// Since when.
        epoch: u64,
        /// Where it listens.
        address: SocketAddr,
    },
    /// There is none.
    Missing,
    /// There is one where none was wanted.
    Taken,
    /// The node takes no new sessions.
    NotAccepting,
    /// The node has as many sessions as it may have.
    Full,
    /// Nobody can say, or do anything about it, at the moment.
    Unavailable {
        /// When to come again.
        retry_after: Duration,
    },
}

/// What a request wants of a key that is not in memory.
pub(super) struct Want<'a> {
    pub(super) key: &'a Key,
    /// The key that the balancer placed the request by.
    pub(super) routed: Option<&'a Key>,
    pub(super) wants: Wants,
    /// The nodes that the balancer could not connect to for this request.
    pub(super) unreachable: &'a [String],
    /// How the session begins if the key is free.
    pub(super) beginning: Option<Beginning>,
}

impl NotHere {
    /// The redirect that leads to where the session is, if it is known to be elsewhere.
    pub(crate) fn redirect(&self) -> Option<Redirect> {
        match self {
            Self::OtherKey(key) => Some(Redirect::Key(key.clone())),
            Self::Elsewhere { node, epoch, address } => {
                Some(Redirect::Owner { node: node.clone(), epoch: *epoch, address: Some(*address) })
            }
            _ => None,
        }
    }
}

impl Hub {
    /// The session, if it is in memory and may be served without asking anybody.
    pub(super) fn here(&self, key: &Key) -> Option<Arc<SessionCell>> {
        let cell = self.sessions.find(key)?;
        if self.gate.is_open(awake_or_not()) {
            return Some(cell);
        }
        self.metrics.ownership.fence_holds.inc();
        None
    }

    /// Asks who owns a key that is not in memory, or that may not be served without asking. Once this is done without a
    /// refusal, the session is here; unless it has ended or gone on since. Gives whether it was begun for this request.
    pub(super) async fn ask(self: &Arc<Self>, want: Want<'_>) -> Result<bool, NotHere> {
        let is_here = self.sessions.find(want.key).is_some();
        if !is_here && want.routed.is_some_and(|routed| routed != want.key) {
            return Err(NotHere::OtherKey(want.key.clone()));
        }
        let Some(owners) = &self.owners else { return self.ask_nobody(want) };
        if want.wants == Wants::New && self.sessions.is_full() {
            return Err(NotHere::Full);
        }
        let unreachable: Vec<NodeId> = want.unreachable.iter().map(|node| NodeId::new(node)).collect();
        let Answer { verdict, began } = owners.ask(want.key, want.wants, &unreachable, want.beginning).await;
        match verdict {
            Verdict::Serve { .. } => Ok(began),
            Verdict::Redirect { owner, epoch, address } => {
                Err(NotHere::Elsewhere { node: owner.node.as_str().to_owned(), epoch: epoch.0, address })
            }
            Verdict::Missing => Err(NotHere::Missing),
            Verdict::Taken => Err(NotHere::Taken),
            Verdict::Unavailable { why: Unavailable::NotReady, .. } => Err(NotHere::NotAccepting),
            Verdict::Unavailable { retry_after, .. } => Err(NotHere::Unavailable { retry_after }),
        }
    }

    /// Without a shared store nobody else has what is not here.
    fn ask_nobody(self: &Arc<Self>, want: Want<'_>) -> Result<bool, NotHere> {
        let beginning = want.beginning.ok_or(NotHere::Missing)?;
        if !self.status.accepts_new() {
            return Err(NotHere::NotAccepting);
        }
        if self.sessions.is_full() {
            return Err(NotHere::Full);
        }
        let is_begun = self.begin_owned(want.key, beginning, 0);
        if is_begun || want.wants != Wants::New { Ok(is_begun) } else { Err(NotHere::Taken) }
    }

    /// Begins a session that this node owns since `epoch`; 0 where ownership is not shared. `false` if there is one
    /// under the key, or no room for one.
    pub(crate) fn begin_owned(self: &Arc<Self>, key: &Key, beginning: Beginning, epoch: u64) -> bool {
        let session = Session::new(key.clone(), self.session_limits(), beginning, &random(), Instant::now());
        let is_begun = self.keep(session, epoch).is_ok();
        if is_begun {
            self.metrics.sessions_created.inc();
        }
        is_begun
    }

    /// Goes on with a session whose owner died, from what is stored of it. A session beyond the node's bound is taken up
    /// all the same: it was within it elsewhere, and is lost otherwise.
    pub(crate) fn resume(
        self: &Arc<Self>,
        key: &Key,
        peers: &[StoredPeer],
        in_flight: Option<&[u8]>,
        epoch: u64,
    ) -> Result<(), ResumeError> {
        let peers: Vec<_> = peers.iter().map(session_peer).collect();
        let (limits, now) = (self.session_limits(), Instant::now());
        let resumed = Session::resumed(key.clone(), limits, &peers, in_flight, unix_now(), &random(), now);
        let session = resumed.inspect_err(|_| self.forget_peers(key, epoch, &peers))?;
        match self.keep_whatever(session, peers.len(), epoch) {
            // They have failed, and the next owner must not let them fail again.
            Ok(cell) if in_flight.is_some() => {
                cell.has_stored_in_flight();
                self.in_flight_changed(&cell);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(session = %key, %error, "a session was taken over twice"),
        }
        Ok(())
    }

    /// Peers came, and their seats with them, of a session that cannot be made. Nor shall the next owner find them.
    fn forget_peers(&self, key: &Key, epoch: u64, peers: &[ctedge_session::StoredPeer]) {
        self.seats.sit(peers.len());
        self.journal_peer(|journal| peers.iter().for_each(|peer| journal.peer_left(key, epoch, peer.clock)));
        self.seats.leave(peers.len(), self.journaled());
    }

    /// How far the journal will be when what was said by now is written.
    pub(super) fn journaled(&self) -> Option<JournalMark> {
        self.journal.as_ref()?.journaled()
    }

    /// Forgets everything, since the lease is over: it may be another node's.
    pub(crate) fn let_go_all(self: &Arc<Self>) {
        for cell in self.sessions.all() {
            self.let_go(cell.key());
        }
        self.seats.lost();
    }

    /// Writes something behind the messages, where ownership is shared.
    pub(super) fn journal(&self, write: impl FnOnce(&Journal)) {
        if let Some(journal) = &self.journal {
            write(journal);
        }
    }

    /// Writes of a peer that has come or gone, for whoever takes the session over.
    pub(super) fn journal_peer(&self, write: impl FnOnce(&Journal)) {
        self.journal(write);
        self.late_waits.notify_one();
    }

    /// The session's requests in flight will be written soon.
    pub(super) fn in_flight_changed(&self, cell: &Arc<SessionCell>) {
        if self.journal.is_some() {
            self.in_flight_changed.lock().push(Arc::downgrade(cell));
            self.late_waits.notify_one();
        }
    }

    /// Writes which requests are in flight, for whoever takes the sessions over, until it is dropped. A session is
    /// written at most once for any number of requests within a round. What was noted before a round need not be noted any
    /// longer once that is written, so that there is one after a peer has come or gone, too.
    pub(crate) async fn write_late(self: Arc<Self>) {
        loop {
            self.late_waits.notified().await;
            tokio::time::sleep(IN_FLIGHT_GATHER).await;
            self.journal(|journal| journal.late(|| self.write_in_flight(journal)));
        }
    }

    fn write_in_flight(&self, journal: &Journal) {
        let changed = std::mem::take(&mut *self.in_flight_changed.lock());
        changed.iter().filter_map(Weak::upgrade).for_each(|cell| cell.write_in_flight(journal));
    }

    /// A message has to wait until the node has verified that the session is still its own. `is_first` of those of the
    /// session.
    pub(super) fn hold(&self, cell: &Arc<SessionCell>, is_first: bool) {
        self.metrics.ownership.fence_holds.inc();
        if is_first {
            self.held.lock().push(Arc::downgrade(cell));
        }
        // It may have opened before the message was in its place: who opened it did not see the message then.
        if self.gate.is_open(Instant::now()) {
            cell.release_held(self);
        }
    }

    /// What had to wait goes on.
    pub(crate) fn release_held(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        for cell in held.iter().filter_map(Weak::upgrade) {
            cell.release_held(self);
        }
    }

    /// Nothing of the session is needed here any more.
    pub(super) fn finished(&self, cell: &Arc<SessionCell>) {
        let was_here = self.sessions.remove(cell);
        cell.collect(&self.metrics);
        // One that was let go, or whose host has begun it anew, says nothing of the session under its key.
        if was_here && let Some(owners) = &self.owners {
            owners.session_ended(cell.key(), cell.epoch());
        }
    }
}
