//! Who lives: leases, their heartbeats and their end.

use std::net::SocketAddr;

use ctedge_ownership::command::{ESTATES_PER_BEAT_MAX, REAPED_MAX};
use ctedge_ownership::{Epoch, Lease, LeaseEnd, LeaseId, Outcome};
use ctedge_wire::{Key, NodeStatus};

use super::columns;
use crate::call::{Tx, parameters, sql, sql_of};
use crate::entry::Entry;
use crate::fault::Fault;
use crate::journal::write_sessions;
use crate::row::Row;

/// Whether the lease lives. If so, it lives until the transaction is over.
pub(crate) async fn hold(tx: &mut Tx<'_>, lease: &LeaseId) -> Result<bool, Fault> {
    let (node, incarnation) = columns(lease);
    let found = tx.row(sql(tx.dialect.hold_lease()).bind(node).bind(incarnation)).await?;
    found.map_or(Ok(false), |row| Ok(!row.flag(0)?))
}

/// Whether the lease lives at this moment. That it does not is final.
pub(crate) async fn lives(tx: &mut Tx<'_>, lease: &LeaseId) -> Result<bool, Fault> {
    let (node, incarnation) = columns(lease);
    let statement = sql("SELECT ended FROM leases WHERE node = $1 AND incarnation = $2").bind(node).bind(incarnation);
    tx.row(statement).await?.map_or(Ok(false), |row| Ok(!row.flag(0)?))
}

pub(super) async fn register(
    tx: &mut Tx<'_>,
    lease: &LeaseId,
    address: SocketAddr,
    pid: u32,
) -> Result<Outcome, Fault> {
    let (node, incarnation) = columns(lease);
    let statement = sql("INSERT INTO leases (node, incarnation, address, pid, beat, status, ended, report) \
         VALUES ($1, $2, $3, $4, 0, $5, 0, '') ON CONFLICT (node, incarnation) DO NOTHING");
    let statement = statement.bind(node).bind(incarnation).bind(address.to_string()).bind(i64::from(pid));
    tx.execute(statement.bind(NodeStatus::Ready.as_str())).await?;
    Ok(if lives(tx, lease).await? { Outcome::Registered } else { Outcome::LeaseEnded })
}

pub(super) async fn beat(tx: &mut Tx<'_>, lease: &LeaseId, status: NodeStatus, report: &str) -> Result<Outcome, Fault> {
    let (node, incarnation) = columns(lease);
    let statement = sql("UPDATE leases SET beat = beat + 1, status = $3, report = $4 \
         WHERE node = $1 AND incarnation = $2 AND ended = 0");
    let statement = statement.bind(node).bind(incarnation).bind(status.as_str()).bind(report.to_owned());
    if tx.execute(statement).await? == 0 {
        return Ok(Outcome::LeaseEnded);
    }
    Ok(Outcome::Beaten { leases: all(tx).await?, estates: estates(tx, lease).await? })
}

/// All leases, ordered by id.
pub(crate) async fn all(tx: &mut Tx<'_>) -> Result<Vec<Lease>, Fault> {
    let statement = sql("SELECT node, incarnation, address, beat, status, ended, report FROM leases");
    let rows = tx.rows(statement).await?;
    let mut leases = rows.iter().map(lease_of).collect::<Result<Vec<_>, _>>()?;
    // The database knows incarnations as signed numbers and would order them so.
    leases.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(leases)
}

fn lease_of(row: &Row) -> Result<Lease, Fault> {
    Ok(Lease {
        id: row.lease(0)?,
        address: row.parsed(2, |text| text.parse().ok())?,
        beat: row.number(3)?,
        status: row.parsed(4, status_of)?,
        ended: end_of(row.number(5)?),
        report: row.text(6)?,
    })
}

/// The number in the column `ended`: 0 while the lease lives, and why it is over after that.
fn number_of(end: LeaseEnd) -> i64 {
    match end {
        LeaseEnd::Unknown => 1,
        LeaseEnd::Left => 2,
        LeaseEnd::Exited => 3,
        LeaseEnd::Silent => 4,
        LeaseEnd::Replaced => 5,
    }
}

/// What the number says. One that is not known here was written by a later version.
pub(super) fn end_of(number: u64) -> Option<LeaseEnd> {
    let is_it = |end: &LeaseEnd| number_of(*end).cast_unsigned() == number;
    (number != 0).then(|| LeaseEnd::ALL.into_iter().find(is_it).unwrap_or(LeaseEnd::Unknown))
}

fn status_of(word: &str) -> Option<NodeStatus> {
    [NodeStatus::Ready, NodeStatus::Draining, NodeStatus::Suspended].into_iter().find(|status| status.as_str() == word)
}

async fn estates(tx: &mut Tx<'_>, lease: &LeaseId) -> Result<Vec<(Key, Epoch)>, Fault> {
    let (node, incarnation) = columns(lease);
    let statement = sql("SELECT session_key, epoch FROM sessions \
         WHERE owner_node = $1 AND owner_incarnation = $2 AND estate IS NOT NULL ORDER BY session_key LIMIT $3");
    let rows = tx.rows(statement.bind(node).bind(incarnation).bind(ESTATES_PER_BEAT_MAX as i64)).await?;
    rows.iter().map(|row| Ok((row.key(0)?, Epoch(row.number(1)?)))).collect()
}

/// Ends the lease, unless it beats. What is `noted` of its sessions is written before, while they are its own.
pub(crate) async fn end(
    tx: &mut Tx<'_>,
    lease: &LeaseId,
    beat: Option<u64>,
    why: LeaseEnd,
    noted: &[Entry],
) -> Result<Outcome, Fault> {
    let (node, incarnation) = columns(lease);
    let seized = tx.row(sql(tx.dialect.seize_lease()).bind(node.clone()).bind(incarnation)).await?;
    let Some(row) = seized else {
        return Ok(Outcome::Ended);
    };
    let (ended, at) = (row.flag(0)?, row.number(1)?);
    if !ended && beat.is_some_and(|beat| beat != at) {
        return Ok(Outcome::Beating);
    }
    if !ended {
        write_sessions(tx, noted).await?;
        let statement = sql("UPDATE leases SET ended = $3 WHERE node = $1 AND incarnation = $2");
        tx.execute(statement.bind(node.clone()).bind(incarnation).bind(number_of(why))).await?;
    }
    Ok(Outcome::Ended)
}

pub(super) async fn reap(tx: &mut Tx<'_>, lease: &LeaseId) -> Result<Outcome, Fault> {
    if lives(tx, lease).await? {
        return Ok(Outcome::Reaped { keys: Vec::new(), all: false });
    }
    let (node, incarnation) = columns(lease);
    // Whoever takes one of them over at this moment has it: its row no longer is this lease's when its lock is free.
    let text = format!(
        "SELECT session_key FROM sessions WHERE owner_node = $1 AND owner_incarnation = $2 \
         ORDER BY session_key LIMIT $3{}",
        tx.dialect.for_update()
    );
    let statement = sql_of(text).bind(node.clone()).bind(incarnation).bind(REAPED_MAX as i64);
    let keys = tx.rows(statement).await?.iter().map(|row| row.key(0)).collect::<Result<Vec<_>, _>>()?;
    delete_sessions(tx, &keys).await?;
    let left = sql("SELECT 1 FROM sessions WHERE owner_node = $1 AND owner_incarnation = $2 LIMIT 1");
    let all = tx.row(left.bind(node.clone()).bind(incarnation)).await?.is_none();
    if all {
        for statement in [
            "DELETE FROM leases WHERE node = $1 AND incarnation = $2",
            "DELETE FROM seats WHERE node = $1 AND incarnation = $2",
        ] {
            tx.execute(sql(statement).bind(node.clone()).bind(incarnation)).await?;
        }
    }
    Ok(Outcome::Reaped { keys, all })
}

async fn delete_sessions(tx: &mut Tx<'_>, keys: &[Key]) -> Result<(), Fault> {
    if keys.is_empty() {
        return Ok(());
    }
    let listed = parameters(1, keys.len(), 1);
    for table in ["peers", "sessions"] {
        let mut statement = sql_of(format!("DELETE FROM {table} WHERE session_key IN {listed}"));
        for key in keys {
            statement = statement.bind(key.as_str().to_owned());
        }
        tx.execute(statement).await?;
    }
    Ok(())
}
