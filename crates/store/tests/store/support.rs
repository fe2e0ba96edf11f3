//! Stores of a test's own, and shorthands for what goes into them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ctedge_ownership::{Epoch, LeaseId, NodeId, StoredPeer};
use ctedge_store::{Command, Day, Outcome, Store, StoreSettings, StoreUrl};
use ctedge_testing::Postgres;
use ctedge_wire::{Key, NodeStatus};
use sqlx::{ConnectOptions as _, Executor as _};
use tempfile::TempDir;

/// Makes one test of an `async fn(Place)` for each database.
macro_rules! on_both {
    ($(#[$attribute:meta])* $name:ident, $test:path) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_sqlite() {
                $test($crate::support::Place::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn in_postgresql() {
                if let Some(place) = $crate::support::Place::postgres() {
                    $test(place).await;
                }
            }
        }
    };
}
pub(crate) use on_both;

/// Where a test's stores are.
pub(crate) struct Place {
    pub(crate) settings: StoreSettings,
    pub(crate) folder: TempDir,
    pub(crate) postgres: Option<Postgres>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let url = StoreUrl::Sqlite(folder.path().join("a ü%?#/ctedge.db"));
        Self { settings: settings(url), folder, postgres: None }
    }

    /// `None` where PostgreSQL is not installed.
    pub(crate) fn postgres() -> Option<Self> {
        let postgres = Postgres::start()?;
        let url = StoreUrl::parse(&postgres.url()).unwrap();
        Some(Self { settings: settings(url), folder: TempDir::new().unwrap(), postgres: Some(postgres) })
    }

    /// Opens the store, as one process of several would.
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.settings).await.unwrap()
    }

    /// The next epoch of the store is 1.
    pub(crate) async fn count_epochs_from_nothing(&self) {
        let text = "UPDATE counters SET value = 0 WHERE name = 'epoch'";
        match &self.postgres {
            Some(postgres) => drop(postgres.sql(text)),
            None => drop(connection(self).await.execute(text).await.unwrap()),
        }
    }

    /// Forgets everything that was stored.
    pub(crate) fn clear(&mut self) {
        match &self.postgres {
            Some(postgres) => {
                postgres.sql("DROP SCHEMA public CASCADE");
                postgres.sql("CREATE SCHEMA public");
            }
            None => *self = Self::sqlite(),
        }
    }
}

pub(crate) fn settings(url: StoreUrl) -> StoreSettings {
    StoreSettings {
        url,
        timeout: Duration::from_secs(10),
        connections: 4,
        journal_entries_max: 10_000,
        notes: None,
        audit_days: 365,
        usage_days: 400,
    }
}

/// A connection to the file of `place`, past the store.
pub(crate) async fn connection(place: &Place) -> sqlx::SqliteConnection {
    let StoreUrl::Sqlite(path) = &place.settings.url else { panic!("no file") };
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

/// A day of November 2026.
pub(crate) fn day(day: u8) -> Day {
    Day { year: 2026, month: 11, day }
}

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) fn lease(node: &str, incarnation: u64) -> LeaseId {
    LeaseId::new(NodeId::new(node), incarnation)
}

pub(crate) fn peer(clock: u64, text: &str) -> StoredPeer {
    let handshake = Bytes::from(format!("{text}\0\u{ff}"));
    StoredPeer { clock, host: clock == 1, user: format!("{{\"name\":{text:?}}}"), handshake }
}

/// A lease that lives, at an address of its own.
pub(crate) async fn registered(store: &Store, node: &str, incarnation: u64) -> LeaseId {
    let id = lease(node, incarnation);
    let port = 3000 + u16::try_from(node.bytes().map(u64::from).sum::<u64>() * 7 + incarnation % 7).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let outcome = store.execute(Command::Register { lease: id.clone(), address, pid: 1 }).await.unwrap();
    assert_eq!(outcome, Outcome::Registered);
    id
}

/// A session that `by` owns.
pub(crate) async fn created(store: &Store, text: &str, by: &LeaseId) -> Epoch {
    match store.execute(Command::Create { key: key(text), by: by.clone() }).await {
        Ok(Outcome::Owned { epoch, .. }) => epoch,
        other => panic!("{text} was not created: {other:?}"),
    }
}

pub(crate) async fn beaten(store: &Store, lease: &LeaseId) -> Outcome {
    let beat = Command::Beat { lease: lease.clone(), status: NodeStatus::Ready, report: "{}".into() };
    store.execute(beat).await.unwrap()
}

/// Numbers that look random and are the same for one seed (SplitMix64, Steele et al. 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}
