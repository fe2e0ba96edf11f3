//! One session behind its lock, with the wakers of its transports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ctedge_protocol::{Handshake, PeerId, RoomClaim, User};
use ctedge_session::{Action, Attached, AttachmentId, CloseReason, CutReason, PeerSlot, Refusal, Session};
use ctedge_wire::{Key, KeyedToken};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::attachment::Pending;
use super::effects::{Effects, Rare, Share, warning_text};
use super::held::Held;
use super::moving::Export;
use super::refusal::NotAttached;
use super::timers::Deadline;
use super::{Hub, KeptBytes};
use crate::clock;
use crate::metrics::Metrics;
use crate::ownership::Journal;

/// One session. Every call locks it, lets the session decide, and carries out what it asks for after unlocking.
pub(super) struct SessionCell {
    key: Key,
    recovery_id: Box<str>,
    /// Since when this node owns the session; 0 where ownership is not shared.
    epoch: u64,
    /// Whether the session's transports are to end at once: what they still bring does not count.
    is_cut: AtomicBool,
    /// Whether the session moves, so that its transports say when they bring something.
    is_moving: AtomicBool,
    state: Mutex<State>,
}

struct State {
    session: Session,
    transports: Transports,
    /// Waits until the session can be exported.
    move_ready: Option<oneshot::Sender<()>>,
    /// Whether it was written down for the next owner.
    is_exported: bool,
    /// Whether the session was let go: whatever becomes of it here is no concern of anybody.
    is_over: bool,
    /// The entry among the node's timers.
    scheduled: Option<Deadline>,
    share: Share,
    /// Licensed seats that the session has: one a peer.
    seats: usize,
    received_bytes: u64,
    /// Messages that wait until the node has verified that the session is its own.
    held: Held,
    /// Whether requests in flight are written in the store.
    wrote_in_flight: bool,
}

/// The transports of a session in the order of their peers, so that one is found by binary search.
#[derive(Default)]
struct Transports(Vec<Transport>);

struct Transport {
    peer: PeerSlot,
    attachment: AttachmentId,
    waker: Option<Waker>,
}

impl SessionCell {
    /// A session that this node owns since `epoch`; 0 where ownership is not shared. It came with `seats`.
    pub(super) fn new(session: Session, epoch: u64, seats: usize) -> Arc<Self> {
        // They came with the session, through the store.
        let wrote_in_flight = session.requests_in_flight() > 0;
        Arc::new(Self {
            key: session.key().clone(),
            recovery_id: session.recovery_id().into(),
            epoch,
            is_cut: AtomicBool::new(false),
            is_moving: AtomicBool::new(false),
            state: Mutex::new(State {
                session,
                transports: Transports::default(),
                move_ready: None,
                is_exported: false,
                is_over: false,
                scheduled: None,
                share: Share::default(),
                seats,
                received_bytes: 0,
                held: Held::default(),
                wrote_in_flight,
            }),
        })
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn recovery_id(&self) -> &str {
        &self.recovery_id
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the session's transports are to end at once.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    pub(super) fn host_claim(&self, user: User) -> RoomClaim {
        self.state.lock().session.host_claim(user)
    }

    /// Starts the clock of a session that has been put into the table.
    pub(super) fn begun(self: &Arc<Self>, hub: &Hub) {
        self.change(hub, |_| ());
    }

    pub(super) fn attach(
        self: &Arc<Self>,
        hub: &Hub,
        claim: &RoomClaim,
        id: PeerId,
        handshake: Handshake,
    ) -> Result<Attached, NotAttached> {
        self.change(hub, |state| {
            // A peer that comes back has its seat.
            let joins = !state.session.has_peer(claim.room_clock) && !state.session.is_ended();
            if joins && !hub.seats.take() {
                return Err(NotAttached::NoSeat);
            }
            let attached = state.session.attach(claim, id, handshake, Instant::now());
            match joins {
                true if attached.is_ok() => state.seats += 1,
                true => hub.seats.leave(1, None),
                false => {}
            }
            let attached = attached?;
            state.transports.add(attached.peer, attached.attachment);
            Ok(attached)
        })
    }

    pub(super) fn detach(self: &Arc<Self>, hub: &Hub, peer: PeerSlot, attachment: AttachmentId) {
        self.change(hub, |state| {
            state.transports.remove(peer, attachment);
            state.session.detach(peer, attachment, Instant::now());
        });
    }

    pub(super) fn receive(self: &Arc<Self>, hub: &Hub, peer: PeerSlot, message: &[u8]) {
        let now = Instant::now();
        if !hub.gate.is_open(clock::awake_or_not()) {
            return self.hold(hub, peer, message);
        }
        self.change(hub, |state| {
            state.relay_held(now);
            state.receive(peer, message, now);
        });
    }

    /// Keeps a message until the node has verified that the session is its own.
    pub(super) fn hold(self: &Arc<Self>, hub: &Hub, peer: PeerSlot, message: &[u8]) {
        let kept = {
            let mut state = self.state.lock();
            if state.is_over {
                return;
            }
            state.held.keep(peer, message, hub.settings.limits.outbox_bytes_max)
        };
        if kept.is_lost {
            hub.metrics.lost_held();
        }
        hub.hold(self, kept.is_first);
    }

    /// Relays what was held.
    pub(super) fn release_held(self: &Arc<Self>, hub: &Hub) {
        self.change(hub, |state| state.relay_held(Instant::now()));
    }

    pub(super) fn request_join(self: &Arc<Self>, hub: &Hub, user: &User, token: KeyedToken) -> Result<(), Refusal> {
        self.change(hub, |state| state.session.request_join(user, token, Instant::now()))
    }

    /// Closes all transports politely, the host's first, while the session goes on reading and relaying. Completes when
    /// the last one is gone, or was cut (see [`Session::begin_move`]), and with an error when the move was cancelled or the session
    /// has finished meanwhile. From here on attaching and joining are refused with [`Refusal::Moving`].
    pub(super) fn begin_move(self: &Arc<Self>, hub: &Hub, within: Duration) -> oneshot::Receiver<()> {
        let (ready, readiness) = oneshot::channel();
        self.is_moving.store(true, Ordering::Release);
        self.change(hub, |state| {
            state.move_ready = Some(ready);
            state.session.begin_move(within, Instant::now());
        });
        readiness
    }

    /// See [`Session::hasten_move`].
    pub(super) fn hasten_move(self: &Arc<Self>, hub: &Hub, by: Instant) {
        if self.is_moving() {
            self.change(hub, |state| state.session.hasten_move(by));
        }
    }

    /// The session stays after all.
    pub(super) fn cancel_move(self: &Arc<Self>, hub: &Hub) {
        self.change(hub, |state| {
            (state.move_ready, state.is_exported) = (None, false);
            state.session.cancel_move(Instant::now());
        });
        self.is_cut.store(false, Ordering::Release);
        self.is_moving.store(false, Ordering::Release);
    }

    /// Whether the session moves.
    pub(super) fn is_moving(&self) -> bool {
        self.is_moving.load(Ordering::Acquire)
    }

    /// A transport has brought something.
    pub(super) fn heard(&self, now: Instant) {
        self.state.lock().session.heard(now);
    }

    /// When the transports of a session that moves are cut at the latest.
    pub(super) fn move_ends(&self) -> Option<Instant> {
        self.state.lock().session.move_ends()
    }

    /// How many transports had to be cut for the session to move, and why.
    pub(super) fn cut_short(&self) -> Option<(usize, CutReason)> {
        self.state.lock().session.cut_short()
    }

    /// Writes the session down, with `luggage` beside it. It must be ready to move. `None` if it was let go.
    pub(super) fn export(&self, luggage: Bytes) -> Option<Export> {
        let state = &mut *self.state.lock();
        if state.is_over {
            return None;
        }
        state.is_exported = true;
        let session = &mut state.session;
        let estate = session.export(luggage, Instant::now());
        Some(Export { estate, peers: session.stored_peers(), in_flight: session.in_flight_bytes() })
    }

    /// Ends the session's part in this node, at once and without a word: its transports are cut, so that their clients
    /// come back to whoever owns it. Nothing that they still bring is relayed.
    pub(super) fn let_go(self: &Arc<Self>, hub: &Hub) {
        self.change(hub, |state| {
            state.is_over = true;
            state.held = Held::default();
            state.session.cut(Instant::now());
        });
        hub.sessions.remove(self);
        self.collect(&hub.metrics);
    }

    /// The store has requests of a former owner's.
    pub(super) fn has_stored_in_flight(&self) {
        self.state.lock().wrote_in_flight = true;
    }

    /// Writes which requests are in flight. Those that were answered before it came to that are of no concern to the store.
    pub(super) fn write_in_flight(&self, journal: &Journal) {
        let mut state = self.state.lock();
        let bytes = state.session.in_flight_bytes();
        if state.is_over {
            return;
        }
        let wrote = std::mem::replace(&mut state.wrote_in_flight, !bytes.is_empty());
        // Under the lock: a request that follows is noted after this.
        if wrote || state.wrote_in_flight {
            journal.in_flight(&self.key, self.epoch, bytes);
        } else {
            journal.none_in_flight(&self.key, self.epoch);
        }
    }

    /// The session's entry among the timers may stay: it is early.
    pub(super) fn renew_graces(&self) {
        self.state.lock().session.renew_graces(Instant::now());
    }

    pub(super) fn timer_fired(self: &Arc<Self>, hub: &Hub, deadline: Deadline) {
        self.change(hub, |state| {
            // An entry that was moved in the meantime is still among the timers.
            if state.scheduled == Some(deadline) {
                state.scheduled = None;
            }
            if !state.is_over {
                state.session.handle_timeout(Instant::now());
            }
        });
    }

    pub(super) fn acknowledge(&self, peer: PeerSlot, offset: u64) {
        self.state.lock().session.acknowledge(peer, offset);
    }

    pub(super) fn cursor_after(&self, peer: PeerSlot, recovered: Option<u64>) -> u64 {
        self.state.lock().session.cursor_after(peer, recovered)
    }

    /// See [`super::Attachment::poll_pending`].
    pub(super) fn poll_pending(
        &self,
        cx: &mut Context<'_>,
        (peer, attachment): (PeerSlot, AttachmentId),
        cursor: u64,
        budget_bytes: usize,
        sink: &mut dyn FnMut(u64, &Bytes),
    ) -> Poll<Pending> {
        let state = &mut *self.state.lock();
        let closing = state.session.closing(peer, attachment);
        if let Some(reason @ (CloseReason::Displaced | CloseReason::Gone)) = closing {
            return Poll::Ready(Pending::Close { reason });
        }
        let mut handed_out = 0;
        for (offset, message) in state.session.outbox(peer).into_iter().flat_map(|outbox| outbox.after(cursor)) {
            sink(offset, message);
            handed_out += message.len().max(1);
            if handed_out >= budget_bytes {
                break;
            }
        }
        match closing {
            _ if handed_out > 0 => Poll::Ready(Pending::Messages),
            Some(reason) => Poll::Ready(Pending::Close { reason }),
            None => {
                state.transports.register(peer, attachment, cx.waker());
                Poll::Pending
            }
        }
    }

    /// Moves what the session counted into the metrics, and gives the bytes that it keeps.
    pub(super) fn collect(&self, metrics: &Metrics) -> KeptBytes {
        let mut state = self.state.lock();
        let counters = state.session.take_counters();
        let received_bytes = std::mem::take(&mut state.received_bytes);
        let kept = KeptBytes { outboxes: state.session.outbox_bytes(), held: state.held.bytes() };
        drop(state);
        metrics.add(&counters, received_bytes);
        kept
    }

    /// Visits the users of all peers, with whether each has a transport.
    pub(super) fn for_each_user(&self, visit: &mut dyn FnMut(&User, bool)) {
        self.state.lock().session.users().for_each(|(user, is_online)| visit(user, is_online));
    }

    pub(super) fn peers(&self) -> usize {
        self.state.lock().share.peers
    }

    /// Tells the session audit that the session ends with the process.
    pub(super) fn audit_stop(&self) {
        if self.state.lock().session.is_live() {
            tracing::info!(target: "sessions", event = "ended", reason = "node-stopped", session = %self.key);
        }
    }

    /// Lets the session change, settles what follows from it, and carries it out.
    fn change<T>(self: &Arc<Self>, hub: &Hub, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        if state.session.is_cut() {
            self.is_cut.store(true, Ordering::Release);
        }
        let effects = state.take_effects(hub, self);
        self.schedule(hub, &mut state);
        let share = state.share();
        if share != state.share {
            hub.totals.update(state.share, share);
            state.share = share;
        }
        state.settle_seats(hub);
        drop(state);
        effects.carry_out(hub, self);
        result
    }

    /// Sees to it that the session's next deadline is not missed.
    fn schedule(self: &Arc<Self>, hub: &Hub, state: &mut State) {
        if let Some(at) = state.session.poll_timeout()
            && !state.is_over
            && state.scheduled.is_none_or(|(scheduled, _)| at < scheduled)
        {
            state.scheduled = Some(hub.timers.schedule(state.scheduled, at, self));
        }
    }
}

impl State {
    /// What a next owner has to know is written down on the spot, before the lock is released and anybody hears of it.
    fn take_effects(&mut self, hub: &Hub, cell: &Arc<SessionCell>) -> Effects {
        let mut effects = Effects::default();
        while let Some(action) = self.session.next_action() {
            match action {
                Action::JoinDecided { .. }
                | Action::Audit(_)
                | Action::PeerJoined(_)
                | Action::PeerLeft { .. }
                | Action::InFlightChanged
                | Action::Requested(_)
                    if self.is_over => {}
                Action::Wake(peer) | Action::ClosePeer { peer, .. } => self.transports.wake(peer, &mut effects),
                Action::Displaced { peer, .. } => self.transports.wake(peer, &mut effects),
                Action::JoinDecided { token, decision } => effects.rare.push(Rare::JoinDecided(token, decision)),
                Action::PeerJoined(peer) => {
                    hub.journal_peer(|journal| journal.peer_joined(&cell.key, cell.epoch, peer));
                }
                Action::PeerLeft { clock } => {
                    hub.journal_peer(|journal| journal.peer_left(&cell.key, cell.epoch, clock));
                }
                Action::InFlightChanged => hub.in_flight_changed(cell),
                Action::Requested(request) => {
                    hub.journal(|journal| journal.requested(&cell.key, cell.epoch, request));
                }
                Action::MoveReady => drop(self.move_ready.take().map(|ready| ready.send(()))),
                Action::Audit(event) => effects.rare.push(Rare::Audit(event)),
                Action::Warning { peer, warning } => effects.rare.push(Rare::Warning(warning_text(&peer, warning))),
                Action::Ended { .. } => {}
                Action::Finished => effects.rare.push(Rare::Finished),
            }
        }
        effects
    }

    fn receive(&mut self, peer: PeerSlot, message: &[u8], now: Instant) {
        if !self.is_over {
            self.received_bytes += message.len() as u64;
            self.session.receive(peer, message, now);
        }
    }

    fn relay_held(&mut self, now: Instant) {
        let (messages, full) = self.held.take();
        for (peer, message) in messages {
            self.receive(peer, &message, now);
        }
        for peer in full {
            if !self.is_over {
                self.session.lose_message_of(peer, now);
            }
        }
    }

    /// Gives back the seats of peers that are gone. Those of a session that was written down to be handed over go with it as it was
    /// then.
    fn settle_seats(&mut self, hub: &Hub) {
        if self.is_exported && !self.is_over {
            return;
        }
        debug_assert!(self.seats >= self.share.peers, "nobody is in a session without a seat");
        let gone = self.seats.saturating_sub(self.share.peers);
        match gone {
            0 => {}
            gone if self.is_over => hub.seats.hand_over(gone),
            gone => hub.seats.leave(gone, hub.journaled()),
        }
        self.seats -= gone;
    }

    fn share(&self) -> Share {
        if self.is_over || self.session.is_ended() {
            return Share::default();
        }
        Share { sessions: 1, peers: self.session.peer_count() }
    }
}

impl Transports {
    fn find(&self, peer: PeerSlot, attachment: AttachmentId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&(peer, attachment), |transport| (transport.peer, transport.attachment))
    }

    fn add(&mut self, peer: PeerSlot, attachment: AttachmentId) {
        if let Err(place) = self.find(peer, attachment) {
            self.0.insert(place, Transport { peer, attachment, waker: None });
        }
    }

    fn remove(&mut self, peer: PeerSlot, attachment: AttachmentId) {
        if let Ok(place) = self.find(peer, attachment) {
            self.0.remove(place);
        }
    }

    fn register(&mut self, peer: PeerSlot, attachment: AttachmentId, waker: &Waker) {
        if let Ok(place) = self.find(peer, attachment) {
            self.0[place].waker = Some(waker.clone());
        }
    }

    /// Takes the wakers of all transports of a peer: a displaced one may still be on its way out.
    fn wake(&mut self, peer: PeerSlot, effects: &mut Effects) {
        let first = self.0.partition_point(|transport| transport.peer < peer);
        let of_peer = self.0[first..].iter_mut().take_while(|transport| transport.peer == peer);
        effects.wakers.extend(of_peer.filter_map(|transport| transport.waker.take()));
    }
}
