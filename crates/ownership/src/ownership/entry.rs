//! What a node knows of one key.

use std::time::Instant;

use ctedge_wire::Key;

use crate::action::CommandId;
use crate::ask::{Ticket, Wants};
use crate::command::{Command, Estate};
use crate::id::{Epoch, LeaseId, NodeId};
use crate::record::Legacy;

/// One key: where it stands, the command that is under way for it, and who waits for it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
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
    TakingOver { from: Epoch },
    /// It belongs to this node, and is not in memory.
    Reading { epoch: Epoch },
    /// Its estate has been read and is being taken up.
    Adopting { epoch: Epoch, legacy: Legacy, taken_over: bool },
    /// It belongs to a node that somebody could not reach.
    Awaiting { owner: LeaseId },
    /// It is served here.
    Owned { epoch: Epoch },
    /// It is being closed and exported.
    Moving { epoch: Epoch },
    /// It exists in its estate alone. Without a command under way, no node is ready to take it.
    HandingOff { epoch: Epoch, to: Option<LeaseId>, estate: Estate },
    /// Its session is over.
    Deleting { epoch: Epoch },
}

impl Entry {
    pub(super) fn new(state: State) -> Self {
        Self { state, command: None, due: None, failed: false, waiting: Vec::new() }
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
            Self::TakingOver { from } => Some(Command::TakeOver { key, from: *from, by }),
            Self::Reading { epoch } => Some(Command::Read { key, epoch: *epoch, by }),
            Self::Adopting { epoch, .. } => Some(Command::Adopt { key, epoch: *epoch, by }),
            Self::HandingOff { epoch, to, estate } => {
                Some(Command::HandOff { key, epoch: *epoch, by, to: to.clone(), estate: estate.clone() })
            }
            Self::Deleting { epoch } => Some(Command::Delete { key, epoch: *epoch, by }),
            Self::Owned { .. } | Self::Moving { .. } => None,
        }
    }
}
