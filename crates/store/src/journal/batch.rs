//! One group of entries as one transaction.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, StoredPeer};
use ctedge_wire::Key;

use super::fenced::Fenced;
use super::records;
use crate::call::{Tx, Work, parameters, sql, sql_of};
use crate::entry::{Entry, Fence};
use crate::execute::{hold, peers};
use crate::fault::Fault;

/// One group of entries. The same writer, number and entries may be written several times and count once.
pub(crate) struct Batch {
    pub(crate) writer: i64,
    pub(crate) number: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Work for Batch {
    /// What came too late.
    type Output = Fenced;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Fenced, Fault> {
        // What is written of sessions may be written again: only the last word counts, and the fence holds each time.
        let fenced = write_sessions(tx, &self.entries).await?;
        let has_records = self.entries.iter().any(|entry| entry.fence().is_none());
        if has_records && self.is_first(tx).await? {
            records::write(tx, &self.entries).await?;
        }
        Ok(fenced)
    }
}

impl Batch {
    /// Whether this batch was not written before: an earlier try may have succeeded without anybody hearing of it.
    async fn is_first(&self, tx: &mut Tx<'_>) -> Result<bool, Fault> {
        let statement = sql("INSERT INTO journal_writers (writer, batch, at_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at_ms = excluded.at_ms \
             WHERE journal_writers.batch < excluded.batch");
        let statement = statement.bind(self.writer).bind(self.number.cast_signed());
        Ok(tx.execute(statement.bind(records::latest(&self.entries).cast_signed())).await? == 1)
    }
}

/// Writes what `entries` say of sessions, as far as it is their writer's to say.
pub(crate) async fn write_sessions(tx: &mut Tx<'_>, entries: &[Entry]) -> Result<Fenced, Fault> {
    let fences: Vec<Fence<'_>> = entries.iter().filter_map(Entry::fence).collect();
    if fences.is_empty() {
        return Ok(Fenced::default());
    }
    let held = Held::of(tx, &fences).await?;
    let mut changes = Changes::default();
    let mut fenced = Fenced::default();
    for entry in entries {
        let Some(fence) = entry.fence() else { continue };
        if held.holds(fence) {
            changes.add(entry);
            continue;
        }
        if matches!(entry, Entry::PeerLeft { .. }) && held.is_gone(fence) {
            // Everybody leaves with a session, and its record may be deleted before they are.
            continue;
        }
        fenced.entries += 1;
        if held.is_lost(fence) {
            let (key, epoch, _) = fence;
            fenced.sessions.insert((key.clone(), epoch));
        }
    }
    changes.write(tx).await?;
    Ok(fenced)
}

/// Who lives and who owns what, as it stays until the transaction is over.
struct Held<'e> {
    living: BTreeSet<&'e LeaseId>,
    owners: BTreeMap<Key, (LeaseId, Epoch)>,
}

impl<'e> Held<'e> {
    /// What `fences` are about. Leases and sessions are locked in their order, so that no two writers wait for each other.
    async fn of(tx: &mut Tx<'_>, fences: &[Fence<'e>]) -> Result<Self, Fault> {
        let mut living = BTreeSet::new();
        for lease in fences.iter().map(|(_, _, by)| *by).collect::<BTreeSet<_>>() {
            if hold(tx, lease).await? {
                living.insert(lease);
            }
        }
        let keys: Vec<&Key> = fences.iter().map(|(key, _, _)| *key).collect::<BTreeSet<_>>().into_iter().collect();
        let mut owners = BTreeMap::new();
        for keys in keys.chunks(peers::ROWS_MAX) {
            let text = format!(
                "SELECT session_key, owner_node, owner_incarnation, epoch FROM sessions WHERE session_key IN {} \
                 ORDER BY session_key{}",
                parameters(1, keys.len(), 1),
                tx.dialect.for_update()
            );
            let mut statement = sql_of(text);
            for key in keys {
                statement = statement.bind(key.as_str().to_owned());
            }
            for row in tx.rows(statement).await? {
                owners.insert(row.key(0)?, (row.lease(1)?, Epoch(row.number(3)?)));
            }
        }
        Ok(Self { living, owners })
    }

    /// Whether the writer lives and owns the session since then.
    fn holds(&self, (key, epoch, by): Fence<'_>) -> bool {
        self.living.contains(by) && self.is_owned((key, epoch, by))
    }

    /// Whether the writer lives and does not own the session. One that does not live hears that from its heartbeat, and has
    /// lost everything.
    fn is_lost(&self, (key, epoch, by): Fence<'_>) -> bool {
        self.living.contains(by) && !self.is_owned((key, epoch, by))
    }

    /// Whether there is no such session, and the writer lives: nobody else ever owned it.
    fn is_gone(&self, (key, _, by): Fence<'_>) -> bool {
        self.living.contains(by) && !self.owners.contains_key(key)
    }

    fn is_owned(&self, (key, epoch, by): Fence<'_>) -> bool {
        self.owners.get(key).is_some_and(|(owner, at)| owner == by && *at == epoch)
    }
}

/// What entries come to when only the last about each thing counts.
#[derive(Default)]
struct Changes<'e> {
    peers: BTreeMap<(&'e Key, u64), Option<&'e StoredPeer>>,
    in_flight: BTreeMap<&'e Key, InFlight<'e>>,
}

/// What becomes of a session's requests in flight: those that are there stay or are replaced, and something follows.
#[derive(Default)]
struct InFlight<'e> {
    replaced_by: Option<Option<&'e Bytes>>,
    following: Vec<&'e Bytes>,
}

impl<'e> Changes<'e> {
    fn add(&mut self, entry: &'e Entry) {
        match entry {
            Entry::PeerJoined { key, peer, .. } => {
                self.peers.insert((key, peer.clock), Some(peer));
            }
            Entry::PeerLeft { key, clock, .. } => {
                self.peers.insert((key, *clock), None);
            }
            Entry::InFlight { key, bytes, .. } => {
                self.in_flight.insert(key, InFlight { replaced_by: Some(bytes.as_ref()), following: Vec::new() });
            }
            Entry::Requested { key, bytes, .. } => self.in_flight.entry(key).or_default().following.push(bytes),
            Entry::Audit(_) | Entry::Usage(_) | Entry::Download(_) => {}
        }
    }

    async fn write(&self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let here: Vec<_> = self.peers.iter().filter_map(|((key, _), peer)| Some((*key, (*peer)?))).collect();
        peers::write(tx, &here).await?;
        let gone: Vec<_> = self.peers.iter().filter(|(_, peer)| peer.is_none()).map(|(at, _)| *at).collect();
        peers::remove(tx, &gone).await?;
        for (key, in_flight) in &self.in_flight {
            let bytes = in_flight.after_what_is_there(tx, key).await?;
            let statement = sql("UPDATE sessions SET in_flight = $2 WHERE session_key = $1");
            tx.execute(statement.bind(key.as_str().to_owned()).bind(bytes)).await?;
        }
        Ok(())
    }
}

impl InFlight<'_> {
    async fn after_what_is_there(&self, tx: &mut Tx<'_>, key: &Key) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = match self.replaced_by {
            Some(replaced_by) => replaced_by.map(|bytes| bytes.to_vec()),
            None => peers::in_flight(tx, key).await?,
        };
        if !self.following.is_empty() {
            let all = bytes.get_or_insert_default();
            self.following.iter().for_each(|change| all.extend_from_slice(change));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ctedge_settings::{StoreSettings, StoreUrl};

    use super::*;
    use crate::entry::{Day, Download};
    use crate::store::{Database, Store};

    fn downloads(writer: i64, number: u64, count: usize) -> Batch {
        let day = Day { year: 2026, month: 11, day: 24 };
        let download = Download { day, ide: "vscode".into(), version: "1".into(), artifact: "a.vsix".into() };
        Batch { writer, number, entries: vec![Entry::Download(download); count] }
    }

    #[tokio::test]
    async fn a_batch_whose_success_nobody_heard_of_counts_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let settings = StoreSettings {
            url: StoreUrl::Sqlite(folder.path().join("ctedge.db")),
            timeout: Duration::from_secs(10),
            connections: 1,
            journal_entries_max: 1_000,
            notes: None,
            audit_days: 1,
            usage_days: 31,
        };
        let store = Store::open(&settings).await.unwrap();
        let database = Database::new(&settings).unwrap();
        for batch in
            [downloads(7, 1, 3), downloads(7, 1, 3), downloads(-7, 1, 5), downloads(7, 2, 1), downloads(7, 1, 3)]
        {
            assert_eq!(database.write_behind(&batch).await.ok(), Some(Fenced::default()));
        }
        assert_eq!(store.totals().await.unwrap().downloads, 3 + 5 + 1);
    }
}
