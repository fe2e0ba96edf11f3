//! The largest figures of a slot.

use super::Usage;

/// The largest figures of the slot that runs, as far as they were told.
#[derive(Debug, Default)]
pub(super) struct Peak {
    slot: Option<u64>,
    most: Usage,
}

impl Peak {
    /// The largest figures of `slot`, if they are larger than what was told before or the first of the slot. So a session
    /// that lasts for less than a slot is told of, and a node of which nothing changes writes once a slot.
    pub(super) fn risen(&mut self, slot: u64, usage: Usage) -> Option<Usage> {
        let most = if self.slot == Some(slot) { self.most.most(usage) } else { usage };
        let is_told = self.slot == Some(slot) && most == self.most;
        *self = Self { slot: Some(slot), most };
        (!is_told).then_some(most)
    }
}

impl Usage {
    /// The larger of each figure.
    fn most(self, other: Self) -> Self {
        Self {
            users_online: self.users_online.max(other.users_online),
            users_in_sessions: self.users_in_sessions.max(other.users_in_sessions),
            sessions: self.sessions.max(other.sessions),
            connections: self.connections.max(other.connections),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(users_online: u64, sessions: u64) -> Usage {
        Usage { users_online, users_in_sessions: users_online, sessions, connections: users_online }
    }

    #[test]
    fn what_rises_is_told_and_each_slot_at_least_once() {
        let mut peak = Peak::default();
        for (slot, counted, told) in [
            (7, usage(0, 0), Some(usage(0, 0))),
            (7, usage(0, 0), None),
            (7, usage(3, 1), Some(usage(3, 1))),
            (7, usage(1, 2), Some(usage(3, 2))),
            (7, usage(2, 1), None),
            (8, usage(2, 1), Some(usage(2, 1))),
        ] {
            assert_eq!(peak.risen(slot, counted), told, "{counted:?} in slot {slot}");
        }
    }
}
