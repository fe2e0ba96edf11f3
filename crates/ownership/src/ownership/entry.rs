//! What a node knows of the keys that it has to do with.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ctedge_wire::Key;

use crate::action::CommandId;
use crate::ask::{Ticket, Wants};
use crate::command::{Command, Estate};
use crate::drain::HandoffReason;
use crate::id::{Epoch, LeaseId, NodeId};
use crate::record::{LeaseEnd, Legacy};

/// The keys that a node has to do with. How many of them are sessions is known without looking at them: each input asks
/// for it.
#[derive(Debug, Default)]
pub(super) struct Entries {
    by_key: BTreeMap<Key, Entry>,
    sessions: usize,
    /// See [`State::is_asked`].
    asked: usize,
    /// See [`State::may_be_forgotten`].
    forgettable: usize,
}

/// One key: where it stands, the command that is under way for it, and who waits for it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Changed by [`Entries::turn`] alone.
    state: State,
    /// At most one at a time, so that the answers need no order.
    pub(super) command: Option<CommandId>,
    /// When to look after it again, if no command is under way.
    pub(super) due: Option<Instant>,
    /// Whether the last command had no outcome.
    pub(super) failed: bool,
    pub(super) waiting: Vec<Waiting>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) wants: Wants,
    pub(super) unreachable: Vec<NodeId>,
    pub(super) deadline: Instant,
}

/// Where a key stands. A key without a state is one of which nothing is known.
#[derive(Debug)]
pub(super) enum State {
    /// Somebody asked, and the store is asked who owns it.
    Looking,
    /// There is none, and it is being created.
    Creating {
        /// An earlier try had no outcome, so that a record of this node may be that try's.
        in_doubt: bool,
    },
    /// Its owner's lease has ended.
    TakingOver { from: Epoch, after: LeaseEnd },
    /// It belongs to this node, and is not in memory: it was handed here, or taken over after that end of its owner.
    Reading { epoch: Epoch, after: Option<LeaseEnd> },
    /// Its estate has been read and is being taken up.
    Adopting { epoch: Epoch, legacy: Legacy, after: Option<LeaseEnd> },
    /// It belongs to a node that somebody could not reach.
    Awaiting { owner: LeaseId },
    /// It is served here.
    Owned { epoch: Epoch },
    /// It is being closed and exported.
    Moving { epoch: Epoch, reason: HandoffReason },
    /// It exists in its estate alone, on its way to `to`, or parked without one.
    HandingOff {
        epoch: Epoch,
        reason: HandoffReason,
        to: Option<LeaseId>,
        estate: Estate,
        /// Since when.
        since: Instant,
        /// Whether the node wants to keep it instead, unless an earlier try has given it away.
        withdrawn: bool,
    },
    /// Its session is over.
    Deleting { epoch: Epoch },
}

impl Entry {
    pub(super) fn new(state: State) -> Self {
        Self { state, command: None, due: None, failed: false, waiting: Vec::new() }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// A key that is being created: a try had no outcome.
    pub(super) fn doubt(&mut self) {
        if let State::Creating { in_doubt } = &mut self.state {
            *in_doubt = true;
        }
    }

    /// An estate that is to be given away: who gets it.
    pub(super) fn choose(&mut self, target: Option<LeaseId>) {
        if let State::HandingOff { to, .. } = &mut self.state {
            *to = target;
        }
    }

    /// A command of the key had no outcome at `now`. What may be under way for longer than `time_max` is withdrawn.
    pub(super) fn withdraw(&mut self, time_max: Duration, now: Instant) {
        if let State::HandingOff { since, withdrawn, .. } = &mut self.state {
            *withdrawn |= now.saturating_duration_since(*since) >= time_max;
        }
    }

    /// Takes out the estate of a session that is to be given away, with the epoch at which it still is this node's, and why it
    /// was to go.
    pub(super) fn take_estate(&mut self) -> Option<(Epoch, Estate, HandoffReason)> {
        match &mut self.state {
            State::HandingOff { epoch, estate, reason, .. } => Some((*epoch, std::mem::take(estate), *reason)),
            _ => None,
        }
    }

    /// Takes out what an estate is adopted from.
    pub(super) fn take_legacy(&mut self) -> Legacy {
        match &mut self.state {
            State::Adopting { legacy, .. } => std::mem::take(legacy),
            _ => Legacy::default(),
        }
    }
}

impl Entries {
    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.by_key.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.by_key.get_mut(key)
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// The key's state, if something is known of it.
    pub(super) fn state(&self, key: &Key) -> Option<&State> {
        self.by_key.get(key).map(Entry::state)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.by_key.iter()
    }

    /// Begins with a key of which nothing is known.
    pub(super) fn insert(&mut self, key: Key, state: State) {
        self.add(&state);
        if let Some(before) = self.by_key.insert(key, Entry::new(state)) {
            self.deduct(&before.state);
        }
    }

    /// Takes a key to another state, if something is known of it.
    pub(super) fn turn(&mut self, key: &Key, state: State) {
        if self.by_key.contains_key(key) {
            self.add(&state);
        }
        if let Some(entry) = self.by_key.get_mut(key) {
            let before = std::mem::replace(&mut entry.state, state);
            self.deduct(&before);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(before) = self.by_key.remove(key) {
            self.deduct(&before.state);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        debug_assert_eq!(self.sessions, self.iter().filter(|(_, entry)| entry.state.is_session()).count());
        self.sessions
    }

    /// How many there are because somebody asked.
    pub(super) fn asked(&self) -> usize {
        debug_assert_eq!(self.asked, self.iter().filter(|(_, entry)| entry.state.is_asked()).count());
        self.asked
    }

    /// Whether nothing is lost by forgetting all of them.
    pub(super) fn may_be_forgotten(&self) -> bool {
        debug_assert_eq!(self.forgettable, self.iter().filter(|(_, entry)| entry.state.may_be_forgotten()).count());
        self.forgettable == self.by_key.len()
    }

    fn add(&mut self, state: &State) {
        self.sessions += usize::from(state.is_session());
        self.asked += usize::from(state.is_asked());
        self.forgettable += usize::from(state.may_be_forgotten());
    }

    fn deduct(&mut self, state: &State) {
        self.sessions -= usize::from(state.is_session());
        self.asked -= usize::from(state.is_asked());
        self.forgettable -= usize::from(state.may_be_forgotten());
    }
}

impl State {
    /// Whether there is a session of it in memory, or what will be one or was one.
    pub(super) fn is_session(&self) -> bool {
        match self {
            Self::Adopting { .. } | Self::Owned { .. } | Self::Moving { .. } | Self::HandingOff { .. } => true,
            Self::Looking | Self::Creating { .. } | Self::TakingOver { .. } | Self::Reading { .. } => false,
            Self::Awaiting { .. } | Self::Deleting { .. } => false,
        }
    }

    /// Whether it is only looked after because somebody asked, be it that they wait no more.
    pub(super) fn is_asked(&self) -> bool {
        matches!(
            self,
            Self::Looking
                | Self::Awaiting { .. }
                | Self::Creating { .. }
                | Self::TakingOver { .. }
                | Self::Reading { .. }
        )
    }

    /// Whether it is on its way out.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self, Self::Moving { .. } | Self::HandingOff { .. })
    }

    /// Whether nothing is lost by forgetting it when the store gives no answer: nothing can have been changed by it.
    pub(super) fn may_be_forgotten(&self) -> bool {
        matches!(self, Self::Looking | Self::Awaiting { .. })
    }

    /// The command that takes it a step on, if a command does.
    pub(super) fn command(&self, key: &Key, by: &LeaseId) -> Option<Command> {
        let (key, by) = (key.clone(), by.clone());
        match self {
            Self::Looking | Self::Awaiting { .. } => Some(Command::Look { key }),
            Self::Creating { .. } => Some(Command::Create { key, by }),
            Self::TakingOver { from, .. } => Some(Command::TakeOver { key, from: *from, by }),
            Self::Reading { epoch, .. } => Some(Command::Read { key, epoch: *epoch, by }),
            Self::Adopting { epoch, .. } => Some(Command::Adopt { key, epoch: *epoch, by }),
            Self::HandingOff { epoch, estate, withdrawn: true, .. } => {
                let (peers, in_flight) = (estate.peers.clone(), estate.in_flight.clone());
                Some(Command::Keep { key, epoch: *epoch, by, peers, in_flight })
            }
            Self::HandingOff { epoch, to, estate, reason, .. } => {
                let (to, estate) = (to.clone(), estate.clone());
                Some(Command::HandOff { key, epoch: *epoch, by, to, estate, reason: *reason })
            }
            Self::Deleting { epoch } => Some(Command::Delete { key, epoch: *epoch, by }),
            Self::Owned { .. } | Self::Moving { .. } => None,
        }
    }
}
