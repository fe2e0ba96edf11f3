//! One group of entries as one transaction.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, StoredPeer};
use ctedge_wire::Key;

use super::fenced::Fenced;
use super::records;
use crate::call::{Tx, Work, parameters, sql, sql_of};
use crate::entry::Entry;
use crate::execute::{hold, peers};
use crate::fault::Fault;

/// One group of entries. The same writer, number and entries may be written several times and count once.
pub(crate) struct Batch {
    pub(crate) writer: i64,
    pub(crate) number: u64,
    pub(crate) entries: Vec<Entry>,
}

/// Who wrote an entry about a session, and under which ownership.
type Fence<'e> = (&'e Key, Epoch, &'e LeaseId);

impl Work for Batch {
    /// What came too late.
    type Output = Fenced;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Fenced, Fault> {
        // What is written of sessions may be written again: only the last word counts, and the fence holds each time.
        let fenced = self.write_sessions(tx).await?;
        let has_records = self.entries.iter().any(|entry| fence_of(entry).is_none());
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

    async fn write_sessions(&self, tx: &mut Tx<'_>) -> Result<Fenced, Fault> {
        let fences: Vec<Fence<'_>> = self.entries.iter().filter_map(fence_of).collect();
        if fences.is_empty() {
            return Ok(Fenced::default());
        }
        let held = Held::of(tx, &fences).await?;
        let mut changes = Changes::default();
        let mut fenced = Fenced::default();
        for entry in &self.entries {
            let Some(fence) = fence_of(entry) else { continue };
            if held.holds(fence) {
                changes.add(entry);
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
}

fn fence_of(entry: &Entry) -> Option<Fence<'_>> {
    match entry {
        Entry::PeerJoined { key, epoch, by, .. }
        | Entry::PeerLeft { key, epoch, by, .. }
        | Entry::InFlight { key, epoch, by, .. } => Some((key, *epoch, by)),
        Entry::Audit(_) | Entry::Usage(_) | Entry::Download(_) => None,
    }
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

    fn is_owned(&self, (key, epoch, by): Fence<'_>) -> bool {
        self.owners.get(key).is_some_and(|(owner, at)| owner == by && *at == epoch)
    }
}

/// What entries come to when only the last about each thing counts.
#[derive(Default)]
struct Changes<'e> {
    peers: BTreeMap<(&'e Key, u64), Option<&'e StoredPeer>>,
    in_flight: BTreeMap<&'e Key, Option<&'e Bytes>>,
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
                self.in_flight.insert(key, bytes.as_ref());
            }
            Entry::Audit(_) | Entry::Usage(_) | Entry::Download(_) => {}
        }
    }

    async fn write(&self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        let here: Vec<_> = self.peers.iter().filter_map(|((key, _), peer)| Some((*key, (*peer)?))).collect();
        peers::write(tx, &here).await?;
        let gone: Vec<_> = self.peers.iter().filter(|(_, peer)| peer.is_none()).map(|(at, _)| *at).collect();
        peers::remove(tx, &gone).await?;
        for (key, bytes) in &self.in_flight {
            let statement = sql("UPDATE sessions SET in_flight = $2 WHERE session_key = $1");
            let statement = statement.bind(key.as_str().to_owned()).bind(bytes.map(|bytes| bytes.to_vec()));
            tx.execute(statement).await?;
        }
        Ok(())
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
