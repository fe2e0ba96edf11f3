//! Licensed connections, shared out among nodes.
//!
//! A node holds a block of seats in the store, and seats its peers from that without asking; how many it holds is decided
//! in `ctedge-license`. Each change of what is held
//! happens in a transaction of its own that waits for the one before, and counts what all others have:
//!
//! - a living lease, the seats that it holds, and those of peers under way: who came to it with a session and of whom it has
//!   not said yet that they sat down, and whom it has exported with a session that has no next owner yet. It says how
//!   many sat down and were exported; who came and went is noted in the transaction in which a session changes its owner.
//!   It is no less than the peers of its sessions;
//! - a lease that ended, the peers of its sessions: they may come back, until somebody takes the sessions over or they
//!   are reaped. What it held in reserve is free at once.
//!
//! Questions are numbered: one that the store carries out late, when its lease has asked again since, changes nothing.
//!
//! When seats run short, a node that wants more says so in the store, and the others give back what they hold in reserve.

use std::collections::BTreeMap;

use ctedge_ownership::{LeaseId, SeatWish};

use crate::call::{Tx, Work, sql};
use crate::execute::{columns, hold};
use crate::fault::Fault;
use crate::row::Row;

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

/// Holds seats in the store.
pub(crate) struct HoldSeats {
    pub(crate) lease: LeaseId,
    pub(crate) wish: SeatWish,
    pub(crate) licensed: u64,
}

/// The seats of one lease, as they are noted.
#[derive(Default)]
struct Noted {
    held: u64,
    came: u64,
    sat: u64,
    went: u64,
    exported: u64,
    number: u64,
}

impl Noted {
    /// The columns, in the order of the fields.
    fn of(row: &Row, first: usize) -> Result<Self, Fault> {
        let [held, came, sat, went, exported, number] = std::array::from_fn(|column| row.number(first + column));
        Ok(Self { held: held?, came: came?, sat: sat?, went: went?, exported: exported?, number: number? })
    }

    /// The seats of peers that are between two owners. A session that was exported and is taken back sits down again without
    /// having gone.
    fn under_way(&self) -> u64 {
        (self.came + self.exported).saturating_sub(self.sat + self.went)
    }
}

impl Work for HoldSeats {
    type Output = Option<Seats>;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Option<Seats>, Fault> {
        if !hold(tx, &self.lease).await? {
            return Ok(None);
        }
        // Everybody else who changes what is held waits for this transaction.
        tx.execute(sql("UPDATE counters SET value = value + 1 WHERE name = 'seats'")).await?;
        let SeatWish { want, sat, exported, number } = self.wish;
        let mut own = noted(tx, &self.lease).await?;
        if number <= own.number {
            let (others, wanted_elsewhere) = elsewhere(tx, &self.lease, false).await?;
            return Ok(Some(Seats { held: own.held, others, licensed: self.licensed, wanted_elsewhere }));
        }
        let (sat, exported) = (sat.max(own.sat), exported.max(own.exported));
        (own.held, own.sat, own.exported) = (own.held + sat - own.sat, sat, exported);
        let (others, wanted_elsewhere) = elsewhere(tx, &self.lease, want > own.held).await?;
        let held = share(own.held, others + own.under_way(), want, self.licensed);
        let (node, incarnation) = columns(&self.lease);
        // Who comes and goes at this very moment is nothing of this statement's.
        let statement = sql("INSERT INTO seats (node, incarnation, held, wanted, sat, exported, number) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (node, incarnation) DO UPDATE \
             SET held = excluded.held, wanted = excluded.wanted, sat = excluded.sat, exported = excluded.exported, \
             number = excluded.number");
        let mut statement = statement.bind(node).bind(incarnation);
        for number in [held, want, own.sat, own.exported, number] {
            statement = statement.bind(number.cast_signed());
        }
        tx.execute(statement).await?;
        Ok(Some(Seats { held, others, licensed: self.licensed, wanted_elsewhere }))
    }
}

/// Notes that peers go from one lease to another, in the transaction that moves their session. It holds the count of epochs,
/// so that no two of them wait for each other's rows.
pub(crate) async fn move_seats(
    tx: &mut Tx<'_>,
    from: Option<&LeaseId>,
    to: &LeaseId,
    peers: usize,
) -> Result<(), Fault> {
    for (lease, went, came) in from.map(|from| (from, peers, 0)).into_iter().chain([(to, 0, peers)]) {
        let (node, incarnation) = columns(lease);
        let statement = sql("INSERT INTO seats (node, incarnation, held, wanted, went, came) \
             VALUES ($1, $2, 0, 0, $3, $4) ON CONFLICT (node, incarnation) \
             DO UPDATE SET went = seats.went + excluded.went, came = seats.came + excluded.came");
        tx.execute(statement.bind(node).bind(incarnation).bind(went as i64).bind(came as i64)).await?;
    }
    Ok(())
}

async fn noted(tx: &mut Tx<'_>, lease: &LeaseId) -> Result<Noted, Fault> {
    let (node, incarnation) = columns(lease);
    let statement =
        sql("SELECT held, came, sat, went, exported, number FROM seats WHERE node = $1 AND incarnation = $2");
    let row = tx.row(statement.bind(node).bind(incarnation)).await?;
    row.map_or(Ok(Noted::default()), |row| Noted::of(&row, 0))
}

/// What all leases but one have, and what they want besides. Peers are counted only for one that wants more: a question
/// that takes nothing is asked every second.
async fn elsewhere(tx: &mut Tx<'_>, lease: &LeaseId, wants_more: bool) -> Result<(u64, u64), Fault> {
    let mut has = BTreeMap::new();
    // Peers first: who is taken over from the dead in between is counted twice then, and not missed.
    if wants_more {
        let statement = sql("SELECT s.owner_node, s.owner_incarnation, COUNT(*) \
             FROM peers p JOIN sessions s ON s.session_key = p.session_key \
             GROUP BY s.owner_node, s.owner_incarnation");
        for row in tx.rows(statement).await? {
            let (owner, peers) = (row.lease(0)?, row.number(2)?);
            if owner != *lease {
                has.insert(owner, peers);
            }
        }
    }
    let statement = sql("SELECT s.node, s.incarnation, s.wanted, s.held, s.came, s.sat, s.went, s.exported, s.number \
         FROM seats s JOIN leases l ON l.node = s.node AND l.incarnation = s.incarnation WHERE l.ended = 0");
    let mut wanted = 0;
    for row in tx.rows(statement).await? {
        let (other, wants, seats) = (row.lease(0)?, row.number(2)?, Noted::of(&row, 3)?);
        if other != *lease {
            let count = has.entry(other).or_insert(0);
            *count = (seats.held + seats.under_way()).max(*count);
            wanted += wants.saturating_sub(seats.held);
        }
    }
    Ok((has.values().sum(), wanted))
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
}
