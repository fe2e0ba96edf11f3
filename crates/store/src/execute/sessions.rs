//! Who owns what: one record a session.

use bytes::Bytes;
use ctedge_ownership::{Epoch, Estate, HandoffReason, LeaseId, Outcome, Record, StoredPeer};
use ctedge_wire::Key;

use super::leases::{end_of, hold, lives};
use super::{columns, next_epoch, peers};
use crate::call::{Tx, sql};
use crate::fault::{Fault, FaultKind};
use crate::seats::move_seats;

/// What a command about a session that exists takes for true.
pub(super) struct Claim<'c> {
    pub(super) key: &'c Key,
    pub(super) epoch: Epoch,
    pub(super) by: &'c LeaseId,
}

/// The key's record as it is at this moment.
pub(super) async fn record(tx: &mut Tx<'_>, key: &Key) -> Result<Option<Record>, Fault> {
    // One statement without a lock: what it joins is of one moment. A lease that is not there has ended, nobody knows why.
    let statement = sql("SELECT s.owner_node, s.owner_incarnation, s.epoch, \
         CAST(CASE WHEN s.estate IS NULL THEN 0 ELSE 1 END AS BIGINT), COALESCE(l.ended, 1), l.address \
         FROM sessions s LEFT JOIN leases l ON l.node = s.owner_node AND l.incarnation = s.owner_incarnation \
         WHERE s.session_key = $1");
    let Some(row) = tx.row(statement.bind(key.as_str().to_owned())).await? else {
        return Ok(None);
    };
    Ok(Some(Record {
        key: key.clone(),
        owner: row.lease(0)?,
        epoch: Epoch(row.number(2)?),
        has_estate: row.flag(3)?,
        owner_ended: end_of(row.number(4)?),
        owner_address: match row.text_or_none(5)? {
            Some(_) => Some(row.parsed(5, |text| text.parse().ok())?),
            None => None,
        },
    }))
}

/// Owner and epoch of the key, which stay as they are until the transaction is over.
async fn hold_session(tx: &mut Tx<'_>, key: &Key) -> Result<Option<(LeaseId, Epoch)>, Fault> {
    let row = tx.row(sql(tx.dialect.hold_session()).bind(key.as_str().to_owned())).await?;
    row.map(|row| Ok((row.lease(0)?, Epoch(row.number(2)?)))).transpose()
}

/// Why the claim does not hold, if so. Otherwise it holds until the transaction is over.
async fn refusal(tx: &mut Tx<'_>, claim: &Claim<'_>) -> Result<Option<Outcome>, Fault> {
    if !hold(tx, claim.by).await? {
        return Ok(Some(Outcome::LeaseEnded));
    }
    let held = hold_session(tx, claim.key).await?;
    if held.is_some_and(|(owner, epoch)| owner == *claim.by && epoch == claim.epoch) {
        return Ok(None);
    }
    Ok(Some(Outcome::Lost(record(tx, claim.key).await?)))
}

pub(super) async fn create(tx: &mut Tx<'_>, key: &Key, by: &LeaseId) -> Result<Outcome, Fault> {
    if !hold(tx, by).await? {
        return Ok(Outcome::LeaseEnded);
    }
    if let Some(record) = record(tx, key).await? {
        return Ok(Outcome::Taken(record));
    }
    let epoch = next_epoch(tx).await?;
    let (node, incarnation) = columns(by);
    let statement = sql("INSERT INTO sessions (session_key, owner_node, owner_incarnation, epoch) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (session_key) DO NOTHING");
    let statement = statement.bind(key.as_str().to_owned()).bind(node).bind(incarnation).bind(epoch.0.cast_signed());
    if tx.execute(statement).await? == 1 {
        return Ok(Outcome::Owned { epoch, legacy: peers::legacy(tx, key).await? });
    }
    // Somebody else was first since the look above, and a number of the count is lost unless the whole is undone.
    Err(Fault::new(FaultKind::Busy, "two created one session"))
}

pub(super) async fn take_over(tx: &mut Tx<'_>, key: &Key, from: Epoch, by: &LeaseId) -> Result<Outcome, Fault> {
    if !hold(tx, by).await? {
        return Ok(Outcome::LeaseEnded);
    }
    let Some((owner, epoch)) = hold_session(tx, key).await? else {
        return Ok(Outcome::Lost(None));
    };
    if epoch != from || lives(tx, &owner).await? {
        return Ok(Outcome::Lost(record(tx, key).await?));
    }
    let epoch = next_epoch(tx).await?;
    let (node, incarnation) = columns(by);
    let statement =
        sql("UPDATE sessions SET owner_node = $2, owner_incarnation = $3, epoch = $4 WHERE session_key = $1");
    let statement = statement.bind(key.as_str().to_owned()).bind(node).bind(incarnation).bind(epoch.0.cast_signed());
    tx.execute(statement).await?;
    let legacy = peers::legacy(tx, key).await?;
    move_seats(tx, None, by, legacy.peers.len()).await?;
    Ok(Outcome::Owned { epoch, legacy })
}

pub(super) async fn read(tx: &mut Tx<'_>, key: &Key, epoch: Epoch, by: &LeaseId) -> Result<Outcome, Fault> {
    match refusal(tx, &Claim { key, epoch, by }).await? {
        Some(refusal) => Ok(refusal),
        None => Ok(Outcome::Owned { epoch, legacy: peers::legacy(tx, key).await? }),
    }
}

pub(super) async fn adopt(tx: &mut Tx<'_>, key: &Key, epoch: Epoch, by: &LeaseId) -> Result<Outcome, Fault> {
    if let Some(refusal) = refusal(tx, &Claim { key, epoch, by }).await? {
        return Ok(refusal);
    }
    let statement = sql("UPDATE sessions SET estate = NULL, given = 0 WHERE session_key = $1");
    tx.execute(statement.bind(key.as_str().to_owned())).await?;
    Ok(Outcome::Adopted)
}

pub(super) async fn hand_off(
    tx: &mut Tx<'_>,
    claim: Claim<'_>,
    to: Option<&LeaseId>,
    estate: &Estate,
    reason: HandoffReason,
) -> Result<Outcome, Fault> {
    if let Some(refusal) = refusal(tx, &claim).await? {
        return Ok(refusal);
    }
    if let Some(to) = to
        && !hold(tx, to).await?
    {
        return Ok(Outcome::TargetEnded);
    }
    let epoch = next_epoch(tx).await?;
    let (node, incarnation) = columns(to.unwrap_or(claim.by));
    let statement = sql("UPDATE sessions SET owner_node = $2, owner_incarnation = $3, epoch = $4, estate = $5, \
         in_flight = $6, given = $7 WHERE session_key = $1");
    let statement =
        statement.bind(claim.key.as_str().to_owned()).bind(node).bind(incarnation).bind(epoch.0.cast_signed());
    let in_flight = estate.in_flight.as_ref().map(|bytes| bytes.to_vec());
    tx.execute(statement.bind(estate.bytes.to_vec()).bind(in_flight).bind(peers::number_of(reason))).await?;
    replace_peers(tx, claim.key, &estate.peers).await?;
    move_seats(tx, Some(claim.by), to.unwrap_or(claim.by), estate.peers.len()).await?;
    Ok(Outcome::HandedOff { epoch })
}

pub(super) async fn keep(
    tx: &mut Tx<'_>,
    claim: Claim<'_>,
    peers: &[StoredPeer],
    in_flight: Option<&Bytes>,
) -> Result<Outcome, Fault> {
    if let Some(refusal) = refusal(tx, &claim).await? {
        return Ok(refusal);
    }
    let epoch = next_epoch(tx).await?;
    let statement =
        sql("UPDATE sessions SET epoch = $2, estate = NULL, in_flight = $3, given = 0 WHERE session_key = $1");
    let statement = statement.bind(claim.key.as_str().to_owned()).bind(epoch.0.cast_signed());
    tx.execute(statement.bind(in_flight.map(|bytes| bytes.to_vec()))).await?;
    replace_peers(tx, claim.key, peers).await?;
    Ok(Outcome::Kept { epoch })
}

async fn replace_peers(tx: &mut Tx<'_>, key: &Key, peers: &[StoredPeer]) -> Result<(), Fault> {
    tx.execute(sql("DELETE FROM peers WHERE session_key = $1").bind(key.as_str().to_owned())).await?;
    let rows: Vec<_> = peers.iter().map(|peer| (key, peer)).collect();
    peers::write(tx, &rows).await
}

pub(super) async fn delete(tx: &mut Tx<'_>, key: &Key, epoch: Epoch, by: &LeaseId) -> Result<Outcome, Fault> {
    match refusal(tx, &Claim { key, epoch, by }).await? {
        Some(Outcome::Lost(None)) => return Ok(Outcome::Deleted),
        Some(refusal) => return Ok(refusal),
        None => {}
    }
    for statement in ["DELETE FROM peers WHERE session_key = $1", "DELETE FROM sessions WHERE session_key = $1"] {
        tx.execute(sql(statement).bind(key.as_str().to_owned())).await?;
    }
    Ok(Outcome::Deleted)
}
