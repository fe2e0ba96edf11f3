//! What a cluster does wrong on purpose, to see that the promises are held against it: each fault changes what goes to
//! or comes from the real decisions, and some seed must then break the promise that it is about.

use std::time::Duration;

use ctedge_ownership::{Ask, Command, Drain, Epoch, Outcome, OwnershipSettings, Unavailable, Verdict};
use ctedge_wire::NodeStatus;

use crate::promise::Promise;
use crate::world::World;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $promise:ident,)*) => {
        /// One rule that a cluster does not keep.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it breaks.
            #[must_use]
            pub fn promise(self) -> Promise {
                match self {
                    $(Self::$name => Promise::$promise,)*
                }
            }
        }
    };
}

faults! {
    /// A node that has lost a session, or its lease, keeps its connections and goes on.
    KeepsWhatItLost => OneOwner,
    /// A node serves without looking at its fence.
    IgnoresItsFence => OneOwner,
    /// A silent lease is ended though its node answers probes.
    EndsWithoutProbe => OneOwner,
    /// A balancer does not listen when nodes say that the lease of another is over.
    IgnoresOver => OneOwner,
    /// A balancer keeps the tunnels to a node that is down.
    KeepsTunnels => OneOwner,
    /// A session moves when the list of nodes changes.
    FollowsTheList => ListsMoveNothing,
    /// An estate stays in the store when it has been taken up.
    RepeatsEstates => OrdersEndNothing,
    /// A handoff is called done and is not.
    LosesEstates => OrdersEndNothing,
    /// A session that could not be given away is called kept, and the store knows nothing of that.
    KeepsUnasked => OrdersEndNothing,
    /// A node that nobody reaches does not notice.
    GoesOnDeaf => OrdersEndNothing,
    /// An estate lacks a peer.
    ForgetsPeerInEstate => OrdersEndNothing,
    /// A session that moves does not wait for its peers to close.
    ClosesWithoutReading => OrdersEndNothing,
    /// A draining node refuses whoever joins a session that it serves.
    RefusesJoiners => OrdersEndNothing,
    /// A node hears of its drain at the deadline only, and takes new sessions until then.
    AcceptsWhileDraining => OrdersEndNothing,
    /// Handoffs begin at once, whatever the deadline.
    IgnoresTheDeadline => OrdersEndNothing,
    /// All handoffs begin at the same time.
    KeepsNoPace => OrdersEndNothing,
    /// A node does not tell the others that it is draining or suspended, and is given sessions.
    HidesItsStatus => OrdersEndNothing,
    /// A takeover finds no peers.
    TakesOverEmpty => DeathsEndNothing,
    /// Who has joined is not written down.
    NeverJournals => DeathsEndNothing,
    /// Who has left is not written down.
    NeverJournalsLeaving => DeathsEndNothing,
    /// Nobody looks for what a dead process had noted.
    NeverNotes => DeathsEndNothing,
    /// A lease that fell silent is never ended.
    NeverEndsSilent => DeathsEndNothing,
    /// A session is deleted as soon as its owner's lease has ended.
    ReapsAtOnce => DeathsEndNothing,
    /// A request is sent to an owner that it could not reach.
    IgnoresUnreachable => DeathsEndNothing,
    /// A peer is gone with its socket.
    DropsPeersWithSockets => BalancersHoldNothing,
    /// Each balancer ranks nodes in its own way.
    RanksApart => BalancersHoldNothing,
    /// A balancer sends what it can send only once, without asking whether the node owns its key.
    SendsUnasked => BalancersHoldNothing,
    /// A balancer does not remember an owner that is not in its list.
    NeverLearns => BalancersHoldNothing,
    /// A node uses a seat more than the store says it holds.
    OversellsSeats => SeatsAreNotOversold,
    /// A balancer keeps all pins.
    PinsWithoutBound => EverythingIsBounded,
    /// A node moves and adopts all sessions at the same time.
    MovesWithoutBound => EverythingIsBounded,
    /// A node lets everyone wait.
    WaitsWithoutBound => EverythingIsBounded,
}

impl World {
    pub(crate) fn breaks(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// The settings of a node's ownership. The checks go by [`World::settings`].
    pub(crate) fn settings_of_node(&self) -> OwnershipSettings {
        let settings = self.settings;
        match self.fault {
            Some(Fault::MovesWithoutBound) => OwnershipSettings { moving_max: usize::MAX, ..settings },
            Some(Fault::WaitsWithoutBound) => OwnershipSettings { asks_max: usize::MAX, ..settings },
            Some(Fault::KeepsNoPace) => OwnershipSettings { handoffs_per_second: u32::MAX, ..settings },
            Some(Fault::ReapsAtOnce) => OwnershipSettings { reap_after: Duration::ZERO, ..settings },
            _ => settings,
        }
    }

    /// An order as it reaches the ownership.
    pub(crate) fn order_as_given(&self, drain: Drain) -> Drain {
        match drain.deadline {
            Some(_) if self.breaks(Fault::IgnoresTheDeadline) => Drain { deadline: Some(Duration::ZERO), ..drain },
            _ => drain,
        }
    }

    /// A question as it reaches the ownership.
    pub(crate) fn ask_as_given(&self, mut ask: Ask) -> Ask {
        if self.breaks(Fault::IgnoresUnreachable) {
            ask.unreachable.clear();
        }
        ask
    }

    /// A verdict that the node gives instead of the ownership's.
    pub(crate) fn verdict_as_given(&self, process: usize, verdict: Verdict) -> Verdict {
        let status = self.processes[process].ownership.status();
        if self.breaks(Fault::RefusesJoiners) && status == NodeStatus::Draining {
            return Verdict::Unavailable { retry_after: Duration::from_secs(1), why: Unavailable::NotReady };
        }
        verdict
    }

    /// A command as it reaches the store.
    pub(crate) fn command_as_given(&self, command: Command) -> Command {
        match command {
            Command::Beat { lease, report, .. } if self.breaks(Fault::HidesItsStatus) => {
                Command::Beat { lease, status: NodeStatus::Ready, report }
            }
            command => command,
        }
    }

    /// What the store answers without having done anything.
    pub(crate) fn feigned(&self, command: &Command) -> Option<Outcome> {
        match (self.fault?, command) {
            (Fault::RepeatsEstates, Command::Adopt { .. }) => Some(Outcome::Adopted),
            (Fault::LosesEstates, Command::HandOff { epoch, to: Some(_), .. }) => {
                Some(Outcome::HandedOff { epoch: Epoch(epoch.0 + 1) })
            }
            (Fault::KeepsUnasked, Command::Keep { epoch, .. }) => Some(Outcome::Kept { epoch: Epoch(epoch.0 + 1) }),
            (Fault::NeverEndsSilent, Command::EndLease { beat: Some(_), .. }) => Some(Outcome::Beating),
            _ => None,
        }
    }

    /// An outcome as it reaches the ownership.
    pub(crate) fn outcome_as_given(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Owned { epoch, mut legacy } if self.breaks(Fault::TakesOverEmpty) => {
                legacy.peers.clear();
                Outcome::Owned { epoch, legacy }
            }
            outcome => outcome,
        }
    }
}
