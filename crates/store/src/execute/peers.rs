//! What lies at a session besides its owner.

use ctedge_ownership::{HandoffReason, Legacy, StoredPeer};
use ctedge_wire::Key;

use crate::call::{Tx, parameters, sql, sql_of};
use crate::fault::{Fault, FaultKind};

/// Rows of one statement. SQLite takes 32,766 parameters, and a longer text gains nothing.
pub(crate) const ROWS_MAX: usize = 64;

/// Everything that is known of the session, which is there.
pub(super) async fn legacy(tx: &mut Tx<'_>, key: &Key) -> Result<Legacy, Fault> {
    let key = key.as_str().to_owned();
    let statement = sql("SELECT estate, in_flight, given FROM sessions WHERE session_key = $1").bind(key.clone());
    let Some(row) = tx.row(statement).await? else {
        return Err(Fault::new(FaultKind::Broken, "a session vanished while it was held"));
    };
    let (estate, in_flight, given) = (row.bytes_or_none(0)?, row.bytes_or_none(1)?, given_of(row.number(2)?));
    let statement = sql("SELECT clock, host, user_json, handshake FROM peers WHERE session_key = $1 ORDER BY clock");
    let rows = tx.rows(statement.bind(key)).await?;
    let peers = rows.iter().map(|row| {
        Ok(StoredPeer { clock: row.number(0)?, host: row.flag(1)?, user: row.text(2)?, handshake: row.bytes(3)? })
    });
    Ok(Legacy { estate, given, peers: peers.collect::<Result<_, Fault>>()?, in_flight })
}

/// What is stored of the requests in flight of a session.
pub(crate) async fn in_flight(tx: &mut Tx<'_>, key: &Key) -> Result<Option<Vec<u8>>, Fault> {
    let statement = sql("SELECT in_flight FROM sessions WHERE session_key = $1").bind(key.as_str().to_owned());
    let row = tx.row(statement).await?;
    Ok(row.map(|row| row.bytes_or_none(0)).transpose()?.flatten().map(Vec::from))
}

/// The number in the column `given`. 0 says nothing.
pub(super) fn number_of(reason: HandoffReason) -> i64 {
    match reason {
        HandoffReason::DrainDeadline => 1,
        HandoffReason::DrainNow => 2,
        HandoffReason::Restart => 3,
        HandoffReason::Stop => 4,
        HandoffReason::Deaf => 5,
    }
}

fn given_of(number: u64) -> Option<HandoffReason> {
    HandoffReason::ALL.into_iter().find(|reason| number_of(*reason).cast_unsigned() == number)
}

/// Writes peers, over those that are there. No peer is in `rows` twice.
pub(crate) async fn write(tx: &mut Tx<'_>, rows: &[(&Key, &StoredPeer)]) -> Result<(), Fault> {
    for rows in rows.chunks(ROWS_MAX) {
        let text = format!(
            "INSERT INTO peers (session_key, clock, host, user_json, handshake) VALUES {} \
             ON CONFLICT (session_key, clock) DO UPDATE SET host = excluded.host, user_json = excluded.user_json, \
             handshake = excluded.handshake",
            parameters(rows.len(), 5, 1)
        );
        let mut statement = sql_of(text);
        for (key, peer) in rows {
            statement = statement.bind(key.as_str().to_owned()).bind(peer.clock.cast_signed());
            statement = statement.bind(i64::from(peer.host)).bind(peer.user.clone()).bind(peer.handshake.to_vec());
        }
        tx.execute(statement).await?;
    }
    Ok(())
}

/// Removes peers by their clocks.
pub(crate) async fn remove(tx: &mut Tx<'_>, rows: &[(&Key, u64)]) -> Result<(), Fault> {
    for rows in rows.chunks(ROWS_MAX) {
        let text = format!("DELETE FROM peers WHERE (session_key, clock) IN (VALUES {})", parameters(rows.len(), 2, 1));
        let mut statement = sql_of(text);
        for (key, clock) in rows {
            statement = statement.bind(key.as_str().to_owned()).bind(clock.cast_signed());
        }
        tx.execute(statement).await?;
    }
    Ok(())
}
