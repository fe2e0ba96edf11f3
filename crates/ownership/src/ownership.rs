//! One node's decisions. Its parts are in files of their own, by topic:
//!
//! - `life`: the own lease, heartbeats, and the fence.
//! - `others`: the leases of others: silent, probed, ended, reaped.
//! - `asking`: who owns a key that somebody asked for.
//! - `owning`: how a key comes to be owned here, and how it ends.
//! - `giving`: drain and handoff. `hearing`: whether anybody reaches this node.

mod asking;
mod entry;
mod giving;
mod hearing;
mod life;
mod others;
mod owning;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use ctedge_wire::{Key, NodeStatus};

use crate::action::{Action, CommandId, Fence};
use crate::ask::{Ask, Ticket};
use crate::command::{Command, Estate, Outcome, StoreFailure};
use crate::drain::{Drain, DrainProgress};
use crate::event::Event;
use crate::id::{Epoch, LeaseId};
use crate::ranking::Ranking;
use crate::record::{Lease, LeaseEnd};
use crate::settings::OwnershipSettings;
use entry::{Entries, State};
use giving::Giving;
use hearing::Hearing;
use life::{Life, Phase};
use others::Others;

/// What a node owns, and what it does about it. See the crate's documentation.
///
/// After each input, and when [`Self::poll_timeout`] has come and [`Self::timeout`] was called, take all of
/// [`Self::next_action`] and begin what they say, before the next input: a verdict holds only until then.
#[derive(Debug)]
pub struct Ownership {
    settings: OwnershipSettings,
    lease: LeaseId,
    address: SocketAddr,
    pid: u32,
    report: String,
    ranking: Box<dyn Ranking>,
    life: Life,
    others: Others,
    entries: Entries,
    /// The requests that wait, each at its key.
    tickets: BTreeMap<Ticket, Key>,
    timers: BTreeSet<(Instant, Timer)>,
    giving: Giving,
    hearing: Hearing,
    commands: BTreeMap<CommandId, Purpose>,
    commands_given: u64,
    actions: VecDeque<Action>,
}

/// What is due at some time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A request has waited long enough.
    Ticket(Ticket),
    /// A key's state is to be looked after.
    Key(Key),
}

/// What a command is for.
#[derive(Debug, Clone)]
enum Purpose {
    /// To register or to beat, given at that time.
    Live(Instant),
    /// To end the own lease.
    Leave,
    /// To end another lease, for that reason.
    End(LeaseId, LeaseEnd),
    /// To reap an ended one.
    Reap(LeaseId),
    /// To take a key one step on.
    Key(Key),
}

impl Ownership {
    /// A node that listens at `address` (bound already) and registers as `lease`. It may serve nothing before the store
    /// has answered.
    #[must_use]
    pub fn new(
        settings: OwnershipSettings,
        lease: LeaseId,
        address: SocketAddr,
        pid: u32,
        ranking: Box<dyn Ranking>,
        now: Instant,
    ) -> Self {
        let mut ownership = Self {
            settings,
            lease,
            address,
            pid,
            report: String::new(),
            ranking,
            life: Life::new(now),
            others: Others::default(),
            entries: Entries::default(),
            tickets: BTreeMap::new(),
            timers: BTreeSet::new(),
            giving: Giving::new(),
            hearing: Hearing::new(now + settings.lost_after),
            commands: BTreeMap::new(),
            commands_given: 0,
            actions: VecDeque::new(),
        };
        ownership.live(now);
        ownership
    }

    /// A request needs the owner of a key. Answered by [`Action::Answer`], which may be given at once.
    pub fn asked(&mut self, ask: Ask, now: Instant) {
        self.tick(now);
        self.ask(ask, now);
    }

    /// The asking client is gone: no answer is wanted any more.
    pub fn gave_up(&mut self, ticket: Ticket) {
        self.forget_ticket(ticket);
    }

    /// The epoch of a key that the node owns and serves, for a request that does not need to ask, and for the headers
    /// of an answer. `None` does not mean that the node does not own it: ask. The fence holds all the same.
    #[must_use]
    pub fn epoch(&self, key: &Key) -> Option<Epoch> {
        match self.entries.state(key)? {
            State::Owned { epoch } => Some(*epoch),
            _ => None,
        }
    }

    /// Whether the key is one of [`Self::sessions`].
    #[must_use]
    pub fn has_session(&self, key: &Key) -> bool {
        self.entries.state(key).is_some_and(State::is_session)
    }

    /// How many sessions the node has in memory, those included that are being handed off.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.entries.sessions()
    }

    /// How many requests wait for a verdict.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.tickets.len()
    }

    /// The store answered a command, or did not.
    pub fn store_answered(&mut self, id: CommandId, answer: Result<Outcome, StoreFailure>, now: Instant) {
        self.tick(now);
        // What was asked under a lease that is over says nothing any more.
        let Some(purpose) = self.commands.remove(&id) else {
            return;
        };
        let is_over = matches!(answer, Ok(Outcome::LeaseEnded));
        match purpose {
            Purpose::Leave => self.left(),
            _ if is_over => self.lease_lost(now),
            Purpose::Live(sent) => self.lived(sent, answer, now),
            Purpose::End(lease, why) => self.ended(&lease, why, answer, now),
            Purpose::Reap(lease) => self.reaped(&lease, answer),
            Purpose::Key(key) => self.stepped(key, id, answer, now),
        }
        self.look_around(now);
    }

    /// A probed node answered as that very lease (`true`), or did not in time.
    pub fn probe_answered(&mut self, lease: &LeaseId, alive: bool, now: Instant) {
        self.tick(now);
        self.probed(lease, alive);
    }

    /// The own listener answered, or did not in time: the answer to [`Action::ProbeOneself`].
    pub fn listener_answered(&mut self, answered: bool, now: Instant) {
        self.tick(now);
        self.heard(answered);
        self.look_around(now);
    }

    /// The journal was told by the store that the key has another owner or epoch than `epoch`.
    pub fn fenced(&mut self, key: &Key, epoch: Epoch, now: Instant) {
        self.tick(now);
        self.lose(key, epoch);
        self.look_around(now);
    }

    /// The session that the node owns since `epoch` is over: everyone has left, or the grace of its last peer has passed.
    /// Its record will be deleted. If the node does not have it any more, this says nothing of what lives under the key.
    pub fn session_ended(&mut self, key: &Key, epoch: Epoch, now: Instant) {
        self.tick(now);
        self.end_session(key, epoch);
        self.look_around(now);
    }

    /// The session that the node owns since `epoch` and that was told to move is closed and exported. If it still is to move
    /// (`true`), the node forgets it: from here on it exists in `estate` alone. Otherwise it was let go meanwhile.
    #[must_use]
    pub fn moved(&mut self, key: &Key, epoch: Epoch, estate: Estate, now: Instant) -> bool {
        self.tick(now);
        self.hand_off(key, epoch, estate, now)
    }

    /// The node has let go of everything and draws this incarnation.
    pub fn registers_anew(&mut self, incarnation: u64, now: Instant) {
        self.lease.incarnation = incarnation;
        self.life = Life::new(now);
        self.live(now);
    }

    /// Takes no new sessions, and gives up those that are left at the deadline. Another order replaces the former one.
    pub fn drain(&mut self, drain: Drain, now: Instant) {
        self.tick(now);
        self.giving.drain(drain, now);
        self.look_around(now);
    }

    /// Begins at least so many handoffs a second from here on: a process that has to end soon cannot spread them.
    pub fn hurry(&mut self, handoffs_per_second: u32) {
        self.settings.handoffs_per_second = self.settings.handoffs_per_second.max(handoffs_per_second);
    }

    /// Takes no new sessions until resumed. A drain is over by that; what is being handed off already goes on to be. A
    /// node that has begun to give up its sessions in order to exit does not stop: `false`.
    pub fn suspend(&mut self) -> bool {
        self.giving.stop(NodeStatus::Suspended)
    }

    /// Takes new sessions again. The same holds as for [`Self::suspend`].
    pub fn resume(&mut self) -> bool {
        self.giving.stop(NodeStatus::Ready)
    }

    /// What the next heartbeat tells the others.
    pub fn report(&mut self, report: String) {
        self.report = report;
    }

    /// The time of [`Self::poll_timeout`] has come, or a later one. It does not matter if it is called too often.
    pub fn timeout(&mut self, now: Instant) {
        self.tick(now);
        while let Some((at, timer)) = self.timers.first().cloned().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer.clone()));
            match timer {
                Timer::Ticket(ticket) => self.ticket_expired(ticket),
                Timer::Key(key) => self.look_after(&key, at),
            }
        }
        self.look_around(now);
    }

    /// When [`Self::timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let giving = self.giving.due().filter(|_| self.life.is_living());
        let probing = self.others.is_probing().then(|| self.life.next_tick(&self.settings));
        let hearing = self.hearing.due().filter(|_| self.life.is_living());
        [timer, self.life.due(&self.settings), giving, probing, hearing].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether sessions may be served.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.life.fence
    }

    /// The lease under which the node registered last. The health report names it, for probes.
    #[must_use]
    pub fn lease(&self) -> &LeaseId {
        &self.lease
    }

    /// Whether the node has nothing to do with the store any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.life.phase == Phase::Gone
    }

    /// The leases of others that beat, as the last heartbeat told of them.
    pub fn beating(&self) -> impl Iterator<Item = &Lease> {
        self.others.beating()
    }

    /// Leases of others that ended because they were silent, until what they left behind is deleted.
    pub fn ended_by_silence(&self) -> impl Iterator<Item = &LeaseId> {
        self.others.ended_by_silence()
    }

    /// A living node that has this one's address as well: balancers and other nodes take the one for the other.
    #[must_use]
    pub fn namesake(&self) -> Option<&Lease> {
        self.others.at_address(self.address)
    }

    /// What the node takes.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.giving.status
    }

    /// How far a drain has come, if there is one.
    #[must_use]
    pub fn drain_progress(&self, now: Instant) -> Option<DrainProgress> {
        self.giving.progress(self.sessions(), now)
    }

    /// What every input may have made due.
    fn look_around(&mut self, now: Instant) {
        self.live(now);
        self.listen(now);
        self.give(now);
        self.refence(now);
    }

    fn command(&mut self, purpose: Purpose, command: Command) -> CommandId {
        self.commands_given += 1;
        let id = CommandId(self.commands_given);
        self.commands.insert(id, purpose);
        self.actions.push_back(Action::Store(id, command));
        id
    }

    fn count(&mut self, event: Event) {
        self.actions.push_back(Action::Count(event));
    }
}
