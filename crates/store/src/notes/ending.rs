//! A lease ends, and what its process had noted on this machine comes into the store.

use std::sync::Arc;
use std::time::Duration;

use ctedge_ownership::{Command, LeaseId, Outcome};

use super::Notes;
use crate::call::{Tx, Work};
use crate::dialect::Access;
use crate::entry::Entry;
use crate::execute::{end_lease, lives};
use crate::fault::{Fault, FaultKind};
use crate::store::Database;

/// The store takes at least so many notes in a second.
const NOTES_PER_SECOND: f64 = 10_000.0;

/// Ends `lease` by `command`. Notes that cannot be read or written are lost, and do not keep it from ending.
pub(crate) async fn end(
    database: &Database,
    notes: &Arc<Notes>,
    lease: &LeaseId,
    command: &Command,
) -> Result<Outcome, Fault> {
    let noted = {
        let (notes, lease) = (Arc::clone(notes), lease.clone());
        // Nothing in there panics.
        tokio::task::spawn_blocking(move || notes.read(&lease)).await.unwrap_or_default()
    };
    let answer = match database.command(&Ending { command, noted: &noted }).await {
        Err(fault) if !noted.is_empty() && matches!(fault.kind, FaultKind::Refused | FaultKind::Broken) => {
            tracing::warn!(%lease, problem = fault.problem, "what a dead node had noted cannot be stored and is lost");
            database.command(command).await
        }
        answer => answer,
    };
    if answer.as_ref().is_ok_and(|outcome| *outcome == Outcome::Ended) {
        remove(notes, lease).await;
    }
    answer
}

/// Removes the notes of all leases that are over.
pub(crate) async fn forget(database: &Database, notes: &Arc<Notes>) -> Result<(), Fault> {
    let noted = Arc::clone(notes);
    let leases = tokio::task::spawn_blocking(move || noted.leases()).await.unwrap_or_default();
    for lease in leases {
        // A process notes nothing before its lease is registered.
        if !database.command(&Lives(&lease)).await? {
            remove(notes, &lease).await;
        }
    }
    Ok(())
}

async fn remove(notes: &Arc<Notes>, lease: &LeaseId) {
    let (notes, lease) = (Arc::clone(notes), lease.clone());
    // An error means that the process ends. The next one removes them.
    let _ = tokio::task::spawn_blocking(move || notes.remove(&lease)).await;
}

/// The end of a lease together with what its process had noted: either both count, or none of them.
struct Ending<'n> {
    command: &'n Command,
    noted: &'n [Entry],
}

impl Work for Ending<'_> {
    type Output = Outcome;

    fn allowance(&self) -> Duration {
        Duration::from_secs(1).mul_f64(self.noted.len() as f64 / NOTES_PER_SECOND)
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Outcome, Fault> {
        match self.command {
            Command::EndLease { lease, beat, why } => end_lease(tx, lease, *beat, *why, self.noted).await,
            command => command.run(tx).await,
        }
    }
}

struct Lives<'l>(&'l LeaseId);

impl Work for Lives<'_> {
    type Output = bool;

    fn access(&self) -> Access {
        Access::Read
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<bool, Fault> {
        lives(tx, self.0).await
    }
}
