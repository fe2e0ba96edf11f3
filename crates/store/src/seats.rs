//! Licensed connections, shared out among nodes.
//!
//! A node holds a block of seats in the store, and seats its peers from that without asking. Each change of what is held
//! happens in a transaction of its own that waits for the one before, and counts what all others have:
//!
//! - a living lease, the seats that it holds or the peers of its sessions, whichever are more: a session that was handed to
//!   it or that it took over brings its peers along before it can hold seats for them;
//! - a lease that ended, the peers of its sessions: they may come back, until somebody takes the sessions over or they
//!   are reaped. What it held in reserve is free at once.
//!
//! When seats run short, a node that wants more says so in the store, and the others give back what they hold in reserve.

use std::collections::BTreeMap;

use ctedge_ownership::LeaseId;

use crate::call::{Tx, Work, sql};
use crate::execute::hold;
use crate::fault::Fault;

/// How the seats are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    /// Held by this lease.
    pub held: u64,
    /// What all other leases have together, see the module; for one that wants no more, at least so many.
    pub others: u64,
    /// Licensed.
    pub licensed: u64,
    /// What other leases want and did not get.
    pub wanted_elsewhere: u64,
}

impl Seats {
    /// Seats that nobody holds.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.licensed.saturating_sub(self.held + self.others)
    }
}

/// How many seats a lease may hold that holds `held` and wants `want`, when other leases hold `others`.
///
/// A license that shrank takes no seat from anybody who sits: it only grants no more.
#[must_use]
pub fn share(held: u64, others: u64, want: u64, licensed: u64) -> u64 {
    if want <= held { want } else { held.max(want.min(licensed.saturating_sub(others))) }
}

/// One node's seats: which are taken, and what to hold in the store. It only decides; the caller calls
/// [`crate::Store::hold_seats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatKeeper {
    block: u64,
    taken: u64,
    held: u64,
    short: bool,
}

impl SeatKeeper {
    /// A keeper that holds nothing, and holds `block` seats in reserve while there are enough.
    #[must_use]
    pub fn new(block: u64) -> Self {
        Self { block, taken: 0, held: 0, short: false }
    }

    /// Takes a seat out of those that the node holds. `false` if all are taken: then ask for [`Self::want`] with one more,
    /// and try again.
    pub fn take(&mut self) -> bool {
        let free = self.taken < self.held;
        self.taken += u64::from(free);
        free
    }

    /// A peer that had a seat has gone.
    pub fn free(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// Seats that are taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Seats that the node holds.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// What the node should hold when `more` peers wait for a seat: those taken, those waited for, and a reserve unless
    /// seats are short.
    #[must_use]
    pub fn want(&self, more: u64) -> u64 {
        self.taken + more + if self.short { 0 } else { self.block }
    }

    /// Whether asking is worth it before anybody waits: the reserve is half used up or twice what it should be. Besides,
    /// ask every few seconds, to hear of what others want.
    #[must_use]
    pub fn should_ask(&self) -> bool {
        let reserve = self.held.saturating_sub(self.taken);
        let most = if self.short { 0 } else { self.block * 2 };
        reserve > most || (!self.short && reserve * 2 < self.block)
    }

    /// Takes in what the store answered.
    pub fn answered(&mut self, seats: &Seats) {
        self.held = seats.held;
        self.short = seats.wanted_elsewhere > 0 || seats.free() < self.block;
    }

    /// The lease is over, and everybody who sat here is gone.
    pub fn lost(&mut self) {
        *self = Self::new(self.block);
    }
}

/// Holds seats in the store.
pub(crate) struct HoldSeats {
    pub(crate) lease: LeaseId,
    pub(crate) want: u64,
    pub(crate) licensed: u64,
}

impl Work for HoldSeats {
    type Output = Option<Seats>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Option<Seats>, Fault> {
        if !hold(tx, &self.lease).await? {
            return Ok(None);
        }
        // Everybody else who changes what is held waits for this transaction.
        tx.execute(sql("UPDATE counters SET value = value + 1 WHERE name = 'seats'")).await?;
        let (node, incarnation) = (self.lease.node.as_str().to_owned(), self.lease.incarnation.cast_signed());
        let own = sql("SELECT held FROM seats WHERE node = $1 AND incarnation = $2");
        let own = tx.row(own.bind(node.clone()).bind(incarnation)).await?;
        let own = own.map_or(Ok(0), |row| row.number(0))?;
        let (others, wanted_elsewhere) = elsewhere(tx, &self.lease, self.want > own).await?;
        let held = share(own, others, self.want, self.licensed);
        let statement = sql("INSERT INTO seats (node, incarnation, held, wanted) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (node, incarnation) DO UPDATE SET held = excluded.held, wanted = excluded.wanted");
        let statement = statement.bind(node).bind(incarnation).bind(held.cast_signed());
        tx.execute(statement.bind(self.want.cast_signed())).await?;
        Ok(Some(Seats { held, others, licensed: self.licensed, wanted_elsewhere }))
    }
}

/// What all leases but one have, and what they want besides. Peers are counted only for one that wants more: a question
/// that takes nothing is asked every second.
async fn elsewhere(tx: &mut Tx<'_>, lease: &LeaseId, wants_more: bool) -> Result<(u64, u64), Fault> {
    let statement = sql("SELECT s.node, s.incarnation, s.held, s.wanted \
         FROM seats s JOIN leases l ON l.node = s.node AND l.incarnation = s.incarnation WHERE l.ended = 0");
    let mut held = BTreeMap::new();
    let mut wanted = 0;
    for row in tx.rows(statement).await? {
        let (other, other_holds, other_wants) = (row.lease(0)?, row.number(2)?, row.number(3)?);
        if other != *lease {
            held.insert(other, other_holds);
            wanted += other_wants.saturating_sub(other_holds);
        }
    }
    if !wants_more {
        return Ok((held.values().sum(), wanted));
    }
    let statement = sql("SELECT s.owner_node, s.owner_incarnation, COUNT(*) \
         FROM peers p JOIN sessions s ON s.session_key = p.session_key GROUP BY s.owner_node, s.owner_incarnation");
    for row in tx.rows(statement).await? {
        let (owner, peers) = (row.lease(0)?, row.number(2)?);
        if owner != *lease {
            let has = held.entry(owner).or_insert(0);
            *has = peers.max(*has);
        }
    }
    Ok((held.values().sum(), wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_more_than_is_left_and_never_less_than_is_kept() {
        for (held, others, want, licensed, expected) in [
            (0, 0, 8, 25, 8),
            (0, 20, 8, 25, 5),
            (0, 25, 8, 25, 0),
            // Giving back always works.
            (8, 25, 3, 25, 3),
            // A license that shrank: those who sit stay.
            (8, 10, 8, 5, 8),
            (8, 10, 12, 5, 8),
            (8, 10, 12, 20, 10),
        ] {
            assert_eq!(share(held, others, want, licensed), expected, "{held} {others} {want} {licensed}");
        }
    }

    fn seats(held: u64, others: u64, licensed: u64, wanted_elsewhere: u64) -> Seats {
        Seats { held, others, licensed, wanted_elsewhere }
    }

    #[test]
    fn a_node_with_a_reserve_seats_its_peers_without_asking() {
        let mut keeper = SeatKeeper::new(8);
        assert!(!keeper.take());
        assert_eq!(keeper.want(1), 9);
        keeper.answered(&seats(9, 0, 100, 0));
        for _ in 0..5 {
            assert!(keeper.take());
            assert!(!keeper.should_ask());
        }
        assert!(keeper.take());
        assert!(keeper.should_ask(), "half of the reserve is used up");
        assert_eq!(keeper.want(0), 14);
    }

    #[test]
    fn a_reserve_is_given_back_when_peers_go() {
        let mut keeper = SeatKeeper::new(4);
        keeper.answered(&seats(12, 0, 100, 0));
        (0..12).for_each(|_| assert!(keeper.take()));
        (0..8).for_each(|_| keeper.free());
        assert!(!keeper.should_ask());
        keeper.free();
        assert!(keeper.should_ask());
        assert_eq!(keeper.want(0), 7);
    }

    #[test]
    fn a_reserve_is_given_back_when_others_want_it() {
        let mut keeper = SeatKeeper::new(4);
        keeper.answered(&seats(5, 20, 25, 0));
        assert!(keeper.take());
        keeper.answered(&seats(5, 20, 25, 1));
        assert!(keeper.should_ask());
        assert_eq!(keeper.want(0), 1);
        keeper.answered(&seats(1, 21, 25, 0));
        assert!(!keeper.should_ask(), "three free seats are too few for a reserve of four");
        keeper.answered(&seats(1, 4, 25, 0));
        assert!(keeper.should_ask());
        assert_eq!(keeper.want(0), 5);
    }

    #[test]
    fn a_node_that_lost_its_lease_holds_nothing() {
        let mut keeper = SeatKeeper::new(4);
        keeper.answered(&seats(5, 0, 25, 0));
        assert!(keeper.take());
        keeper.lost();
        assert_eq!((keeper.taken(), keeper.held(), keeper.take()), (0, 0, false));
    }
}
