//! Licensed connections, shared out among nodes.
//!
//! A node holds a block of seats in the store, and seats its peers from that without asking; how many it holds is decided
//! in `ctedge-license`. Each change of what is held
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
}
