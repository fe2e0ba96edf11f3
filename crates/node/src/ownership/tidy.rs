//! What the store keeps for operators, and for how long. Every node tidies up; whoever comes late finds nothing to do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::journal::Journal;
use super::keeper::Keeper;

/// How often a node tidies up, from its start on. What is kept is counted in days.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How often a node that starts looks whether the store is open.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Tidies up until it is dropped.
pub(super) async fn run(keeper: Arc<Keeper>, journal: Journal) {
    loop {
        let Some(store) = keeper.store() else {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        };
        let settings = keeper.settings();
        let ago = |days: u32| SystemTime::now().checked_sub(DAY * days).unwrap_or(SystemTime::UNIX_EPOCH);
        let (audit, _) = journal.stamp(ago(settings.audit_days));
        let (_, usage) = journal.stamp(ago(settings.usage_days));
        match store.forget(audit, usage).await {
            Ok(forgotten) => tracing::debug!(?forgotten, "the store is tidied up"),
            Err(error) => tracing::warn!(%error, "the store could not be tidied up; it is tried again"),
        }
        if let Err(error) = store.forget_notes().await {
            tracing::warn!(%error, "it is not known which notes of former nodes can go; it is asked again");
        }
        tokio::time::sleep(EVERY).await;
    }
}
