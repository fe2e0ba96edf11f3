//! The hub between transports and sessions.
//!
//! A transport verifies nothing itself: it hands the room token of its handshake to [`Hub::attach`] and gets an
//! [`Attachment`], which is that peer's end of its session. Dropping the attachment starts the peer's grace period.
//!
//! - `attachment`: a transport's end of a session.
//! - `cell`: one session behind its lock, with the wakers of its transports.
//! - `effects`: what a session asks for, carried out after its lock is released.
//! - `held`: messages that wait until it is known whether their session is this node's.
//! - `owning`: which sessions this node has, and what it does about those that it does not have.
//! - `moving`: sessions leave for other nodes, and come from them.
//! - `table`: the sessions by their keys.
//! - `timers`: one task that wakes the sessions of a node.

mod attachment;
mod cell;
mod effects;
mod held;
mod moving;
mod owning;
mod refusal;
mod table;
mod timers;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use ctedge_ownership::Wants;
pub use ctedge_protocol::Handshake;
use ctedge_protocol::http::JoinPoll;
use ctedge_protocol::{RoomClaim, RoomToken, Tokens, User};
pub use ctedge_session::CloseReason;
use ctedge_session::{Beginning, Refusal, SessionLimits};
use ctedge_settings::NodeSettings;
use ctedge_wire::{Key, KeyedToken, Random};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use attachment::{Attachment, Pending};
pub use moving::{AdoptError, Export};
pub(crate) use owning::NotHere;
pub use refusal::AttachRefusal;
use refusal::NotAttached;
pub(crate) use refusal::{CreateRefusal, JoinRefusal};

use crate::clock::{random, unix_now};
use crate::connections::Connections;
use crate::license::{Licensing, NodeSeats, SeatCounts};
use crate::metrics::Metrics;
use crate::ownership::{Gate, Journal, Owners};
use crate::pending::PendingTable;
use crate::status::Status;
use cell::SessionCell;
use effects::Totals;
use owning::Want;
use table::SessionTable;
use timers::Timers;

/// A join request's answer is kept for this long after its decision was due, so that a poll finds it.
const JOIN_ANSWER_KEPT: std::time::Duration = std::time::Duration::from_secs(30);

/// How often a request starts over when its session ends or moves on in between. Each time needs another session to do
/// so at that very moment.
const TRIES: usize = 3;

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
    /// What the license is worth.
    licensing: Arc<Licensing>,
    /// The licensed seats of this node.
    pub(crate) seats: Arc<NodeSeats>,
    /// Whom to ask about sessions that are not here. Nobody without a shared store.
    owners: Option<Owners>,
    /// Whether what is here may be served.
    gate: Arc<Gate>,
    /// Where is written what others need to take a session over.
    journal: Option<Journal>,
    /// Sessions with messages that wait for the gate.
    held: Mutex<Vec<Weak<SessionCell>>>,
    /// Sessions whose requests in flight have changed since they were written.
    in_flight_changed: Mutex<Vec<Weak<SessionCell>>>,
    /// Told when there is something to write late.
    late_waits: Notify,
}

/// How much a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubTotals {
    /// Sessions that have not ended.
    pub sessions: usize,
    /// Their peers, those within their grace period included.
    pub peers: usize,
}

/// Bytes of messages that sessions keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptBytes {
    /// Until their receipt is proven.
    pub outboxes: usize,
    /// Until it is known whether their session is this node's.
    pub held: usize,
}

impl Hub {
    /// A hub that shares its sessions through `shared`, or keeps them to itself.
    pub(crate) fn new(settings: NodeSettings, metrics: Metrics, shared: Option<(Owners, Journal)>) -> Arc<Self> {
        let limits = &settings.limits;
        let (owners, journal) = shared.unzip();
        let gate = owners.as_ref().map_or_else(|| Arc::new(Gate::open()), |owners| Arc::clone(owners.gate()));
        let licensing = Licensing::begin(settings.license.clone(), settings.says_license);
        let licensed = licensing.verdict().seats();
        Arc::new(Self {
            licensing,
            seats: if owners.is_some() { NodeSeats::shared(licensed) } else { NodeSeats::alone(licensed) },
            owners,
            gate,
            journal,
            held: Mutex::default(),
            in_flight_changed: Mutex::default(),
            late_waits: Notify::new(),
            tokens: Tokens::new(&settings.secret),
            status: Status::new(Instant::now()),
            metrics,
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
    /// A transport that the same peer still has is displaced. A host whose session is nowhere brings it back: the session
    /// is begun anew, if the license allows it. `unreachable` are the nodes that the balancer could not connect to for this
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

    async fn try_attach(
        self: &Arc<Self>,
        routed_key: Option<&Key>,
        unreachable: &[String],
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
        let seat_by = self.seats.deadline();
        let mut tries = 0;
        while tries < TRIES {
            if let Some(cell) = self.here(&claim.room) {
                match cell.attach(self, &claim, id.clone(), handshake.clone()) {
                    Ok(attached) => return Ok(Attachment::new(self, &cell, attached, id, routed_key)),
                    Err(NotAttached::NoSeat) => {
                        self.seats.free(seat_by).await?;
                        continue;
                    }
                    // Its host begins it anew.
                    Err(NotAttached::Refused(Refusal::Ended)) if claim.host => self.finished(&cell),
                    // It is asked about until it is somewhere else.
                    Err(NotAttached::Refused(Refusal::Moving)) => {}
                    Err(NotAttached::Refused(refusal)) => return Err(refusal.into()),
                }
            }
            tries += 1;
            // To begin a session anew is to begin one. Whatever runs, here or elsewhere, goes on.
            let no_license = self.licensing.refusal().filter(|_| claim.host);
            let want = bring_back(routed_key, unreachable, &claim, no_license.is_none());
            match (self.ask(want).await, no_license) {
                (Err(NotHere::Missing), Some(info)) => return Err(AttachRefusal::Refused(info.message)),
                (asked, _) => asked.map(drop)?,
            }
        }
        Err(AttachRefusal::unavailable())
    }

    /// Where a client belongs that has not said who it is, by the key that the balancer placed it by. `None` if that is
    /// here, or nowhere, or if nobody can say.
    pub(crate) async fn elsewhere(
        self: &Arc<Self>,
        routed: Option<&Key>,
        unreachable: &[String],
    ) -> Option<AttachRefusal> {
        let routed = routed?;
        if self.here(routed).is_some() {
            return None;
        }
        let not_here = self.locate(Some(routed), unreachable, routed).await.err()?;
        matches!(not_here, NotHere::Elsewhere { .. }).then(|| not_here.into())
    }

    /// Reserves a session under `key` for its host, who must bring a transport within `timeouts.decision`. Gives the
    /// host's token, and since when the session is owned here.
    pub(crate) async fn create(self: &Arc<Self>, key: &Key, user: User) -> Result<(RoomToken, u64), CreateRefusal> {
        if !self.status.accepts_new() {
            return Err(CreateRefusal::NotHere(NotHere::NotAccepting));
        }
        if self.sessions.find(key).is_some() {
            return Err(CreateRefusal::InUse);
        }
        if let Some(info) = self.licensing.refusal() {
            return Err(CreateRefusal::NoLicense(info));
        }
        self.seats.free(self.seats.deadline()).await?;
        let beginning = Some(Beginning::created(unix_now()));
        let want = Want { key, routed: None, wants: Wants::New, unreachable: &[], beginning };
        let is_begun = self.ask(want).await?;
        let cell = self.sessions.find(key).filter(|_| is_begun).ok_or(CreateRefusal::InUse)?;
        Ok((self.tokens.sign_room(&cell.host_claim(user), unix_now()), cell.epoch()))
    }

    /// Asks the host of `room` whether `user` may come in. Gives the token to poll with, and since when the session is
    /// owned here.
    pub(crate) async fn request_join(
        self: &Arc<Self>,
        routed: Option<&Key>,
        unreachable: &[String],
        room: &Key,
        user: &User,
    ) -> Result<(KeyedToken, u64), JoinRefusal> {
        for _ in 0..TRIES {
            if let Some(cell) = self.here(room) {
                // A host should not be asked for somebody who could not come in then.
                self.seats.free(self.seats.deadline()).await?;
                match self.request_join_of(&cell, user) {
                    Ok(token) => return Ok((token, cell.epoch())),
                    Err(JoinRefusal::Moving) => {}
                    Err(refusal) => return Err(refusal),
                }
            }
            self.locate(routed, unreachable, room).await?;
        }
        Err(JoinRefusal::NotHere(NotHere::Missing))
    }

    fn request_join_of(&self, cell: &Arc<SessionCell>, user: &User) -> Result<KeyedToken, JoinRefusal> {
        let token = KeyedToken::mint(cell.key(), &random());
        let now = Instant::now();
        self.joins.open(token.clone(), now).map_err(|_| JoinRefusal::ServerFull)?;
        let asked = cell.request_join(self, user, token.clone());
        if asked.is_err() {
            self.joins.end_by(&token, now);
            self.joins.purge(now);
        }
        asked.map(|()| token).map_err(|refusal| match refusal {
            Refusal::Full => JoinRefusal::SessionFull,
            Refusal::Moving => JoinRefusal::Moving,
            _ => JoinRefusal::NotHere(NotHere::Missing),
        })
    }

    /// Finds out whether what lives under `key` is here; a session, or logins that wait. It may have gone on since.
    pub(crate) async fn locate(
        self: &Arc<Self>,
        routed: Option<&Key>,
        unreachable: &[String],
        key: &Key,
    ) -> Result<(), NotHere> {
        let want = Want { key, routed, wants: Wants::Existing, unreachable, beginning: None };
        self.ask(want).await.map(drop)
    }

    /// Since when the session is owned here. 0 where ownership is not shared, or without such a session.
    pub(crate) fn epoch(&self, key: &Key) -> u64 {
        self.sessions.find(key).map_or(0, |cell| cell.epoch())
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
            let due = self.timers.due().await;
            // A node that was away may not end sessions that are another's by then.
            self.gate.opened().await;
            for (deadline, cell) in due {
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

    /// Moves what the sessions counted into the metrics, and gives the bytes that they keep.
    pub(crate) fn collect(&self) -> KeptBytes {
        let mut all = KeptBytes::default();
        self.sessions.for_each(|cell| {
            let KeptBytes { outboxes, held } = cell.collect(&self.metrics);
            all.outboxes += outboxes;
            all.held += held;
        });
        all
    }

    /// Gives whoever is away from a session a whole grace period from now on.
    pub(crate) fn renew_graces(&self) {
        self.sessions.for_each(SessionCell::renew_graces);
    }

    /// Visits the users of all sessions, with whether each has a transport. One that is in several is visited again.
    pub(crate) fn for_each_user(&self, mut visit: impl FnMut(&User, bool)) {
        self.sessions.for_each(|cell| cell.for_each_user(&mut visit));
    }

    /// How many peers a session has; none where it is not here.
    pub(crate) fn peers_of(&self, key: &Key) -> usize {
        self.sessions.find(key).map_or(0, |cell| cell.peers())
    }

    /// How much the node has.
    #[must_use]
    pub fn totals(&self) -> HubTotals {
        HubTotals {
            sessions: self.totals.sessions.load(Ordering::Relaxed),
            peers: self.totals.peers.load(Ordering::Relaxed),
        }
    }

    /// What the license is worth.
    pub(crate) fn licensing(&self) -> &Arc<Licensing> {
        &self.licensing
    }

    /// How many licensed seats there are, and whose.
    #[must_use]
    pub fn seats(&self) -> SeatCounts {
        self.seats.counts()
    }

    /// Sees to it that a change of the license takes effect, until it is dropped.
    pub(crate) async fn watch_license(self: Arc<Self>) {
        let seats = Arc::clone(&self.seats);
        Arc::clone(&self.licensing).watch(move |verdict| seats.set_licensed(verdict.seats())).await;
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

    /// Whether there is no room for another session, or for another connection.
    pub(crate) fn is_full(&self) -> bool {
        self.sessions.is_full() || self.connections.count() >= self.settings.limits.connections_max
    }

    /// What the node counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether the node may serve what it has.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Whom to ask about sessions that are not here.
    pub(crate) fn owners(&self) -> Option<&Owners> {
        self.owners.as_ref()
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

/// What the bearer of a room token wants whose session is not in memory: a host brings it back if it is nowhere and
/// sessions may begin.
fn bring_back<'a>(
    routed: Option<&'a Key>,
    unreachable: &'a [String],
    claim: &'a RoomClaim,
    may_begin: bool,
) -> Want<'a> {
    let begins = claim.host && may_begin;
    let beginning = begins.then(|| Beginning::revived(claim, unix_now()));
    let wants = if begins { Wants::ExistingOrNew } else { Wants::Existing };
    Want { key: &claim.room, routed, wants, unreachable, beginning }
}
