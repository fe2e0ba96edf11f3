//! How the seats of a license are shared out. Sessions bring the seats of their peers along when they change their owner.

use std::collections::BTreeMap;

use super::StoreModel;
use crate::id::LeaseId;
use crate::seats::{SeatShare, SeatWish};

/// The seats of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct SeatsOf {
    held: u64,
    wanted: u64,
    /// Peers that ever came with sessions that were handed to the lease, or that it took over.
    came: u64,
    /// Those that have sat down, whose seats are in `held`.
    sat: u64,
    /// Peers that ever went with sessions that the lease handed off.
    went: u64,
    /// Peers that it has exported, whose seats are not in `held` any more.
    exported: u64,
    /// The last wish that was granted.
    number: u64,
}

impl SeatsOf {
    /// The seats of peers that are between two owners: they came and did not sit down yet, or are exported and did not go. A
    /// session that was exported and is taken back sits down again without having gone.
    fn under_way(&self) -> u64 {
        (self.came + self.exported).saturating_sub(self.sat + self.went)
    }
}

impl StoreModel {
    /// Holds as many seats of `licensed` for a lease as it wishes, or as the others leave. A living lease has what it
    /// holds and what is under way to it or from it, and no less than the peers of its sessions; an ended one, the peers of
    /// its sessions. A wish that is not younger than the last changes nothing. `None` if `by` has ended.
    pub fn hold_seats(&mut self, by: &LeaseId, wish: SeatWish, licensed: u64) -> Option<SeatShare> {
        if !self.lives(by) {
            return None;
        }
        let mut own = self.seats.get(by).copied().unwrap_or_default();
        let is_young = wish.number > own.number;
        if is_young {
            let (sat, exported) = (wish.sat.max(own.sat), wish.exported.max(own.exported));
            (own.held, own.sat, own.exported) = (own.held + sat - own.sat, sat, exported);
        }
        let wants_more = is_young && wish.want > own.held;
        let (others, wanted_elsewhere) = self.seats_elsewhere(by, wants_more);
        if wants_more {
            let left = licensed.saturating_sub(others + own.under_way());
            own.held = own.held.max(wish.want.min(left));
        } else if is_young {
            own.held = wish.want;
        }
        if is_young {
            (own.wanted, own.number) = (wish.want, wish.number);
            self.seats.insert(by.clone(), own);
        }
        Some(SeatShare { held: own.held, others, wanted_elsewhere })
    }

    /// What all others have together, and what they want and did not get. Without `all`, peers are not counted.
    fn seats_elsewhere(&self, by: &LeaseId, all: bool) -> (u64, u64) {
        let mut has = BTreeMap::<&LeaseId, u64>::new();
        for row in self.rows.values().filter(|row| all && row.owner != *by) {
            *has.entry(&row.owner).or_default() += row.legacy.peers.len() as u64;
        }
        let mut wanted = 0;
        for (lease, seats) in self.seats.iter().filter(|(lease, _)| *lease != by && self.lives(lease)) {
            let count = has.entry(lease).or_default();
            *count = (seats.held + seats.under_way()).max(*count);
            wanted += seats.wanted.saturating_sub(seats.held);
        }
        (has.values().sum(), wanted)
    }

    /// Peers go from one lease to another with their session.
    pub(super) fn move_seats(&mut self, from: Option<&LeaseId>, to: &LeaseId, peers: usize) {
        if let Some(from) = from {
            self.seats.entry(from.clone()).or_default().went += peers as u64;
        }
        self.seats.entry(to.clone()).or_default().came += peers as u64;
    }
}
