//! The store as it comes and goes. A node starts without it, and goes on without it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ctedge_license::seats::Wish;
use ctedge_ownership::{Command, Epoch, LeaseId, Outcome, StoreFailure};
use ctedge_settings::StoreSettings;
use ctedge_store::{Entry, JournalMark, SeatWish, Seats, Store, StoreHealth};
use ctedge_wire::{Key, StoreState};
use tokio::sync::SetOnce;

use super::counts::OwnershipCounts;

/// The pauses between two tries to open the store.
const OPEN_AGAIN: Duration = Duration::from_millis(500);

/// How often an operator is told that the store cannot be opened.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

/// How long the end of the process waits for what is still to be written.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The store, once it could be opened.
pub(crate) struct Keeper {
    settings: StoreSettings,
    store: SetOnce<Store>,
    counts: OwnershipCounts,
}

impl Keeper {
    pub(crate) fn new(settings: StoreSettings, counts: OwnershipCounts) -> Arc<Self> {
        Arc::new(Self { settings, store: SetOnce::new(), counts })
    }

    /// Opens the store, as often as it takes. The journal's task runs on the runtime of the caller.
    pub(super) async fn open(self: Arc<Self>) {
        let mut told: Option<Instant> = None;
        loop {
            match Store::open(&self.settings).await {
                Ok(store) => {
                    tracing::info!(url = %self.settings.url, "the store is open");
                    // Nobody else opens it.
                    let _ = self.store.set(store);
                    return;
                }
                Err(error) => {
                    if told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
                        tracing::error!(%error, "the node waits for the store and serves nothing until then");
                        told = Some(Instant::now());
                    }
                }
            }
            tokio::time::sleep(OPEN_AGAIN).await;
        }
    }

    /// Gives the command to the store.
    pub(super) async fn execute(&self, command: Command) -> Result<Outcome, StoreFailure> {
        let store = self.store.get().ok_or(StoreFailure::Unreachable)?;
        let began = Instant::now();
        let answer = store.execute(command).await;
        self.counts.store_seconds.observe(began.elapsed().as_secs_f64());
        let result = match &answer {
            Ok(_) => "ok",
            Err(StoreFailure::Unreachable) => "unreachable",
            Err(StoreFailure::Slow) => "slow",
            Err(StoreFailure::Full) => "full",
            Err(StoreFailure::Broken) => "broken",
        };
        self.counts.store_commands.with_label_values(&[result]).inc();
        answer
    }

    /// Sessions of which the store says that they are not this node's any more, each with the epoch at which it was. Waits
    /// for the first of them. Cancel safe.
    pub(super) async fn lost_sessions(&self) -> BTreeSet<(Key, Epoch)> {
        self.store.wait().await.lost_sessions().await
    }

    /// Holds licensed seats in the store.
    pub(super) async fn hold_seats(
        &self,
        lease: &LeaseId,
        wish: Wish,
        licensed: u32,
    ) -> Result<Option<Seats>, StoreFailure> {
        let store = self.store.get().ok_or(StoreFailure::Unreachable)?;
        let Wish { want, sat, exported, number } = wish;
        store.hold_seats(lease, SeatWish { want: want.into(), sat, exported, number }, licensed.into()).await
    }

    /// Writes the entry soon. Before the store is open there is nothing to write about.
    pub(super) fn journal(&self, entry: Entry) {
        if let Some(store) = self.store.get() {
            store.journal(entry);
        }
    }

    /// How far the journal will be when what was said by now is written. `None` before the store is open.
    pub(super) fn journaled(&self) -> Option<JournalMark> {
        self.store.get().map(Store::journaled)
    }

    /// Waits until the journal is as far as that.
    pub(super) async fn written(&self, mark: JournalMark) {
        self.store.wait().await.written(mark).await;
    }

    /// Notes the entry on this machine. See [`Store::note`].
    pub(super) fn note(&self, entry: &Entry) {
        if let Some(store) = self.store.get() {
            store.note(entry);
        }
    }

    /// Lets `journal` write what was put off. See [`Store::journal_late`].
    pub(super) fn journal_late(&self, journal: impl FnOnce()) {
        if let Some(store) = self.store.get() {
            store.journal_late(journal);
        }
    }

    /// Writes what waits, if that is possible in a short time.
    pub(super) async fn flush(&self) {
        if let Some(store) = self.store.get()
            && !store.flush(FLUSH_MAX).await
        {
            tracing::warn!("what was still to be written into the store is lost: it does not answer");
        }
    }

    /// The store, once it is open.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// What was settled about it.
    pub(super) fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// How the store is.
    pub(crate) fn state(&self) -> StoreState {
        self.store.get().map_or(StoreState::Unreachable, Store::state)
    }

    /// What an operator has to set right about it.
    pub(super) fn trouble(&self) -> Option<String> {
        self.store.get()?.trouble()
    }

    /// How the store and the journal are; nothing before the store is open.
    pub(crate) fn health(&self) -> Option<StoreHealth> {
        self.store.get().map(Store::health)
    }
}
