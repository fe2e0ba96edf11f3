//! The hub between transports and sessions.
//!
//! A transport verifies nothing itself: it hands the room token of its handshake to [`Hub::attach`] and gets an
//! [`Attachment`], which is that peer's end of its session. Dropping the attachment starts the peer's grace period.
//!
//! - `attachment`: a transport's end of a session.
//! - `cell`: one session behind its lock, with the wakers of its transports.
//! - `effects`: what a session asks for, carried out after its lock is released.
//! - `moving`: sessions leave for other nodes, and come from them.
//! - `table`: the sessions by their keys.
//! - `timers`: one task that wakes the sessions of a node.

mod attachment;
mod cell;
mod effects;
mod moving;
mod refusal;
mod table;
mod timers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub use ctedge_protocol::Handshake;
use ctedge_protocol::http::JoinPoll;
use ctedge_protocol::{RoomClaim, RoomToken, Tokens, User};
pub use ctedge_session::CloseReason;
use ctedge_session::{Beginning, Refusal, Session, SessionLimits};
use ctedge_settings::NodeSettings;
use ctedge_wire::{Key, KeyedToken, Random};

pub use attachment::{Attachment, Pending};
pub use moving::{AdoptError, Export};
pub use refusal::{AttachRefusal, CreateRefusal, JoinRefusal};

use crate::clock::{random, unix_now};
use crate::connections::Connections;
use crate::metrics::Metrics;
use crate::pending::PendingTable;
use crate::status::Status;
use cell::SessionCell;
use effects::Totals;
use table::{Insertion, SessionTable};
use timers::Timers;

/// A join request's answer is kept for this long after its decision was due, so that a poll finds it.
const JOIN_ANSWER_KEPT: std::time::Duration = std::time::Duration::from_secs(30);

/// How often an attach starts over when its session ends in between. Each time needs another session to end at that
/// very moment.
const ATTACH_TRIES: usize = 3;

/// The sessions of a node.
pub struct Hub {
    settings: NodeSettings,
    tokens: Tokens,
    status: Status,
    metrics: Metrics,
    connections: Arc<Connections>,
    sessions: SessionTable,
    joins: PendingTable<JoinPoll>,
    timers: Timers,
    totals: Totals,
}

/// How much a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubTotals {
    /// Sessions that have not ended.
    pub sessions: usize,
    /// Their peers, those within their grace period included.
    pub peers: usize,
}

impl Hub {
    pub(crate) fn new(settings: NodeSettings) -> Arc<Self> {
        let limits = &settings.limits;
        Arc::new(Self {
            tokens: Tokens::new(&settings.secret),
            status: Status::new(Instant::now()),
            metrics: Metrics::new(),
            connections: Connections::new(limits.connections_max),
            sessions: SessionTable::new(limits.sessions_max),
            joins: PendingTable::new(limits.pending_max, settings.timeouts.decision + JOIN_ANSWER_KEPT),
            timers: Timers::new(),
            totals: Totals::default(),
            settings,
        })
    }

    /// Brings the bearer of `room_token` into its session. `routed_key` is the key that the balancer placed the request
    /// by (`ctstickiness`), `None` where a client came without a balancer.
    ///
    /// A transport that the same peer still has is displaced. A host whose session this node does not have brings it
    /// back: the session is begun anew. `unreachable` are the nodes that the balancer could not connect to for this
    /// request: an owner among them is waited for, not asked.
    pub async fn attach(
        self: &Arc<Self>,
        routed_key: Option<&Key>,
        unreachable: &[String],
        room_token: &str,
        handshake: Handshake,
    ) -> Result<Attachment, AttachRefusal> {
        let attached = self.try_attach(routed_key, unreachable, room_token, handshake).await;
        if let Err(refusal) = &attached {
            self.metrics.refused(refusal.reason());
        }
        attached
    }

    // Looking into a shared store takes time; without one there is nothing to wait for.
    #[allow(clippy::unused_async)]
    async fn try_attach(
        self: &Arc<Self>,
        routed_key: Option<&Key>,
        _unreachable: &[String],
        room_token: &str,
        handshake: Handshake,
    ) -> Result<Attachment, AttachRefusal> {
        if self.status.is_stopping() {
            return Err(AttachRefusal::unavailable());
        }
        let claim = self.tokens.verify_room(room_token, unix_now()).map_err(|refusal| {
            tracing::debug!(%refusal, "a transport's room token is not believed");
            AttachRefusal::Unauthorized
        })?;
        let id = self.tokens.peer_id(&claim);
        for _ in 0..ATTACH_TRIES {
            let Some(cell) = self.sessions.find(&claim.room) else {
                self.bring_back(routed_key, &claim)?;
                continue;
            };
            match cell.attach(self, &claim, id.clone(), handshake.clone()) {
                Ok(attached) => return Ok(Attachment::new(self, &cell, attached, id)),
                Err(Refusal::Ended) if claim.host => self.sessions.remove(&cell),
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(AttachRefusal::unavailable())
    }

    /// Begins a session anew that was lost with its node, for its host only.
    fn bring_back(self: &Arc<Self>, routed_key: Option<&Key>, claim: &RoomClaim) -> Result<(), AttachRefusal> {
        if routed_key.is_some_and(|routed| *routed != claim.room) {
            return Err(AttachRefusal::Misdirected(claim.room.clone()));
        }
        if !claim.host {
            return Err(AttachRefusal::SessionMissing);
        }
        if !self.status.accepts_new() {
            return Err(AttachRefusal::unavailable());
        }
        match self.begin(&claim.room, Beginning::revived(claim, unix_now())) {
            Insertion::Inserted(_) | Insertion::InUse => Ok(()),
            // Another node may have room.
            Insertion::Full => Err(AttachRefusal::unavailable()),
        }
    }

    /// Reserves a session under `key` for its host, who must bring a transport within `timeouts.decision`.
    pub(crate) fn create(self: &Arc<Self>, key: &Key, user: User) -> Result<RoomToken, CreateRefusal> {
        if !self.status.accepts_new() {
            return Err(CreateRefusal::NotAccepting);
        }
        match self.begin(key, Beginning::created(unix_now())) {
            Insertion::Inserted(cell) => Ok(self.tokens.sign_room(&cell.host_claim(user), unix_now())),
            Insertion::InUse => Err(CreateRefusal::InUse),
            Insertion::Full => Err(CreateRefusal::Full),
        }
    }

    fn begin(self: &Arc<Self>, key: &Key, beginning: Beginning) -> Insertion {
        let insertion = self.sessions.insert(key, || {
            let session = Session::new(key.clone(), self.session_limits(), beginning, &random(), Instant::now());
            SessionCell::new(session, 0)
        });
        if let Insertion::Inserted(cell) = &insertion {
            self.metrics.sessions_created.inc();
            cell.begun(self);
        }
        insertion
    }

    /// Asks the host of `room` whether `user` may come in. The token is what to poll with.
    pub(crate) fn request_join(&self, room: &Key, user: &User) -> Result<KeyedToken, JoinRefusal> {
        let cell = self.sessions.find(room).ok_or(JoinRefusal::NotFound)?;
        let token = KeyedToken::mint(room, &random());
        let now = Instant::now();
        self.joins.open(token.clone(), now).map_err(|_| JoinRefusal::ServerFull)?;
        let asked = cell.request_join(self, user, token.clone());
        if asked.is_err() {
            self.joins.end_by(&token, now);
            self.joins.purge(now);
        }
        asked.map(|()| token).map_err(|refusal| match refusal {
            Refusal::Full => JoinRefusal::SessionFull,
            _ => JoinRefusal::NotFound,
        })
    }

    /// Whether `room_token` is a valid token of a host.
    pub(crate) fn is_host(&self, room_token: &str) -> bool {
        self.tokens.verify_room(room_token, unix_now()).is_ok_and(|claim| claim.host)
    }

    fn session_limits(&self) -> SessionLimits {
        let (limits, timeouts) = (&self.settings.limits, &self.settings.timeouts);
        SessionLimits {
            peers_max: limits.peers_per_session_max,
            message_bytes_max: limits.message_bytes_max,
            outbox_bytes_max: limits.outbox_bytes_max,
            requests_in_flight_max: limits.requests_in_flight_max,
            // A session never has more join requests than peers could come of them.
            joins_max: limits.peers_per_session_max,
            grace: timeouts.grace,
            request: timeouts.request,
            decision: timeouts.decision,
        }
    }

    /// Runs the sessions' timers until it is dropped.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        loop {
            for (deadline, cell) in self.timers.due().await {
                cell.timer_fired(&self, deadline);
            }
        }
    }

    /// Removes join requests that have ended.
    pub(crate) fn purge_joins(&self, now: Instant) {
        self.joins.purge(now);
    }

    /// Tells the session audit of every session that ends with the process.
    pub(crate) fn audit_stop(&self) {
        self.sessions.for_each(SessionCell::audit_stop);
    }

    /// Moves what the sessions counted into the metrics, and gives the bytes that their outboxes hold.
    pub(crate) fn collect(&self) -> usize {
        let mut outbox_bytes = 0;
        self.sessions.for_each(|cell| outbox_bytes += cell.collect(&self.metrics));
        outbox_bytes
    }

    /// How much the node has.
    #[must_use]
    pub fn totals(&self) -> HubTotals {
        HubTotals {
            sessions: self.totals.sessions.load(Ordering::Relaxed),
            peers: self.totals.peers.load(Ordering::Relaxed),
        }
    }

    /// The node's settings: limits and timeouts of the transports among them.
    #[must_use]
    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// The open transport connections: a transport takes a slot of them before it attaches.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// What the node counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What the node accepts.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// 32 random bytes of the operating system, for whatever a transport mints.
    #[must_use]
    pub fn random(&self) -> Random {
        random()
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(crate) fn joins(&self) -> &PendingTable<JoinPoll> {
        &self.joins
    }
}
