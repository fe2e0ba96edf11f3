//! What there is at this moment.

use ctedge_ownership::{Epoch, Lease, LeaseId, StoreFailure};
use ctedge_wire::Key;

use crate::call::{Tx, Work, sql};
use crate::dialect::Access;
use crate::execute::leases_all;
use crate::fault::Fault;
use crate::report::PAGE_ROWS_MAX;
use crate::store::Store;

/// A session that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionNow {
    /// Its key.
    pub key: Key,
    /// Its owner.
    pub owner: LeaseId,
    /// Since when.
    pub epoch: Epoch,
    /// Whether the owner's lease has ended, so that the session waits to be taken over.
    pub waits: bool,
    /// Its peers, those in their grace included.
    pub peers: u64,
}

impl Store {
    /// At most `rows` sessions by key, those after `after`.
    pub async fn sessions(&self, after: Option<&Key>, rows: u32) -> Result<Vec<SessionNow>, StoreFailure> {
        self.report(&Sessions { after: after.cloned(), rows: rows.clamp(1, PAGE_ROWS_MAX) }).await
    }

    /// All leases with what their nodes last said of themselves, ended ones that were not reaped included, by id.
    pub async fn leases(&self) -> Result<Vec<Lease>, StoreFailure> {
        self.report(&Leases).await
    }

    /// Seats that living leases hold together.
    pub async fn seats_held(&self) -> Result<u64, StoreFailure> {
        self.report(&SeatsHeld).await
    }
}

struct Sessions {
    after: Option<Key>,
    rows: u32,
}

impl Work for Sessions {
    type Output = Vec<SessionNow>;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let statement = sql("SELECT s.session_key, s.owner_node, s.owner_incarnation, s.epoch, COALESCE(l.ended, 1), \
             (SELECT COUNT(*) FROM peers p WHERE p.session_key = s.session_key) \
             FROM sessions s LEFT JOIN leases l ON l.node = s.owner_node AND l.incarnation = s.owner_incarnation \
             WHERE s.session_key > $1 ORDER BY s.session_key LIMIT $2");
        let after = self.after.as_ref().map_or_else(String::new, |key| key.as_str().to_owned());
        let rows = tx.rows(statement.bind(after).bind(i64::from(self.rows))).await?;
        let sessions = rows.iter().map(|row| {
            Ok(SessionNow {
                key: row.key(0)?,
                owner: row.lease(1)?,
                epoch: Epoch(row.number(3)?),
                waits: row.flag(4)?,
                peers: row.number(5)?,
            })
        });
        sessions.collect()
    }
}

struct Leases;

impl Work for Leases {
    type Output = Vec<Lease>;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        leases_all(tx).await
    }
}

struct SeatsHeld;

impl Work for SeatsHeld {
    type Output = u64;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<u64, Fault> {
        let statement = sql("SELECT CAST(SUM(s.held) AS BIGINT) FROM seats s \
             JOIN leases l ON l.node = s.node AND l.incarnation = s.incarnation WHERE l.ended = 0");
        tx.row(statement).await?.map_or(Ok(0), |row| row.sum(0))
    }
}
