//! Tables, and how they come to be.
//!
//! A schema has a number, which rises by one with each file in `schema/`. Opening a store carries out the files that it
//! has not seen, all in one transaction that keeps other processes waiting, so that any number of them may start at once.
//! A file that was released is never changed. A store of a later version is refused: what its program relies on is not
//! known here.
//!
//! Opening a store also raises its count of epochs to the time in microseconds: no more of them are used up than that, so that
//! each is above all that were given out before, be it by a store that is no more.

use std::time::SystemTime;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::dialect::{Access, Dialect};
use crate::fault::{Fault, FaultKind};
use crate::lane::Lane;
use crate::row::Row;

/// What made each schema from the one before; the first is made from an empty database.
const STEPS: [&str; 3] =
    [include_str!("schema/0001.sql"), include_str!("schema/0002.sql"), include_str!("schema/0003.sql")];

/// The newest schema that this program knows.
pub(crate) const KNOWN: u64 = STEPS.len() as u64;

/// How a store was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It has the known schema, after the steps that it lacked.
    Ready,
    /// Its schema is newer.
    Newer(u64),
}

/// Brings the store up to the known schema. Bounded in time by whoever calls, repeatable after any failure.
pub(crate) async fn migrate(lane: &Lane, dialect: Dialect) -> Result<Found, Fault> {
    let mut lent = lane.lend().await?;
    let mut tx = lent.connection.begin_with(dialect.begin(Access::Write)).await?;
    tx.execute(sqlx::raw_sql(dialect.hold_schema())).await?;
    tx.execute(sqlx::raw_sql("CREATE TABLE IF NOT EXISTS ctedge_schema (version BIGINT NOT NULL)")).await?;
    let newest = sqlx::query("SELECT MAX(version) FROM ctedge_schema").fetch_one(&mut *tx).await?;
    let found = Row(newest).sum(0)?;
    if found > KNOWN {
        return Ok(Found::Newer(found));
    }
    for (version, step) in (1..=KNOWN).zip(STEPS).skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        // A text of this program's own.
        tx.execute(sqlx::raw_sql(AssertSqlSafe(dialect.types(step)))).await?;
        sqlx::query("INSERT INTO ctedge_schema (version) VALUES ($1)")
            .bind(version.cast_signed())
            .execute(&mut *tx)
            .await?;
        tracing::info!(version, "the store has a schema of this version");
    }
    // Whoever remembers epochs of a store that was lost, or restored from a backup, must not take later ones for older.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    sqlx::query("UPDATE counters SET value = $1 WHERE name = 'epoch' AND value < $1")
        .bind(i64::try_from(now).unwrap_or_default())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    lent.give_back();
    Ok(Found::Ready)
}

/// Whether a failure of [`migrate`] may pass by itself within moments.
pub(crate) fn may_pass(fault: &Fault) -> bool {
    fault.kind == FaultKind::Busy
}
