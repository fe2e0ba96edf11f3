//! One node's decisions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use ctedge_wire::{Key, NodeStatus};

use crate::action::{Action, CommandId, Fence};
use crate::ask::Ask;
use crate::command::{Command, Estate, Outcome, StoreFailure};
use crate::drain::{Drain, DrainProgress};
use crate::id::{Epoch, LeaseId};
use crate::ranking::Ranking;
use crate::settings::OwnershipSettings;

/// What a node owns, and what it does about it. See the crate's documentation.
///
/// After each call that takes `now`, and when [`Self::poll_timeout`] has come, take all of [`Self::next_action`].
#[derive(Debug)]
pub struct Ownership {
    settings: OwnershipSettings,
    lease: LeaseId,
    address: SocketAddr,
    pid: u32,
    ranking: Box<dyn Ranking>,
    actions: VecDeque<Action>,
    commands: u64,
    fence: Fence,
    report: String,
    status: NodeStatus,
}

impl Ownership {
    /// A node that listens at `address` (bound already) and registers as `lease`. It may serve nothing before the store has
    /// answered.
    #[must_use]
    pub fn new(
        settings: OwnershipSettings,
        lease: LeaseId,
        address: SocketAddr,
        pid: u32,
        ranking: Box<dyn Ranking>,
        _now: Instant,
    ) -> Self {
        let mut ownership = Self {
            settings,
            lease,
            address,
            pid,
            ranking,
            actions: VecDeque::new(),
            commands: 0,
            fence: Fence::Closed,
            report: String::new(),
            status: NodeStatus::Ready,
        };
        let lease = ownership.lease.clone();
        ownership.store(Command::Register { lease, address, pid });
        ownership
    }

    /// A request needs the owner of a key. Answered by [`Action::Answer`], which may be given at once.
    pub fn asked(&mut self, _ask: Ask, _now: Instant) {}

    /// The asking client is gone, or the request took too long: no answer is wanted any more.
    pub fn gave_up(&mut self, _ticket: crate::ask::Ticket) {}

    /// The epoch of a key that the node owns and serves, for a request that does not need to ask, and for the headers
    /// of an answer. `None` does not mean that the node does not own it: ask.
    #[must_use]
    pub fn epoch(&self, _key: &Key) -> Option<Epoch> {
        None
    }

    /// The store answered a command.
    pub fn store_answered(&mut self, _id: CommandId, _answer: Result<Outcome, StoreFailure>, _now: Instant) {}

    /// A probed node answered as that very lease (`true`), or did not in time.
    pub fn probe_answered(&mut self, _lease: &LeaseId, _alive: bool, _now: Instant) {}

    /// The journal was told by the store that the key has another owner or epoch, or that the lease has ended.
    pub fn fenced(&mut self, _key: &Key, _epoch: Epoch, _now: Instant) {}

    /// A session is over: everyone has left, or the grace of its last peer has passed. Its record will be deleted.
    pub fn session_ended(&mut self, _key: &Key, _now: Instant) {}

    /// A session that was told to move is closed and exported, and is forgotten by the node: from here on it exists in
    /// `estate` alone.
    pub fn moved(&mut self, _key: &Key, _estate: Estate, _now: Instant) {}

    /// The node has let go of everything and draws this incarnation.
    pub fn registers_anew(&mut self, _incarnation: u64, _now: Instant) {}

    /// Takes no new sessions, and gives up those that are left at the deadline. Another order replaces the former one.
    pub fn drain(&mut self, _drain: Drain, _now: Instant) {}

    /// Takes no new sessions until resumed.
    pub fn suspend(&mut self, _now: Instant) {}

    /// Takes new sessions again. Ends a drain; what is being handed off already goes on to be. A node that is about to
    /// exit does not resume: `false`.
    pub fn resume(&mut self, _now: Instant) -> bool {
        true
    }

    /// What the next heartbeat tells the others.
    pub fn report(&mut self, report: String) {
        self.report = report;
    }

    /// The time of [`Self::poll_timeout`] has come, or a later one. It does not matter if it is called too often.
    pub fn timeout(&mut self, _now: Instant) {}

    /// When [`Self::timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether sessions may be served.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// The lease under which the node registered last. The health report names it, for probes.
    #[must_use]
    pub fn lease(&self) -> &LeaseId {
        &self.lease
    }

    /// What the node takes.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.status
    }

    /// How far a drain has come, if there is one.
    #[must_use]
    pub fn drain_progress(&self, _now: Instant) -> Option<DrainProgress> {
        None
    }

    fn store(&mut self, command: Command) {
        self.commands += 1;
        self.actions.push_back(Action::Store(CommandId(self.commands), command));
    }
}
