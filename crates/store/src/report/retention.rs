//! What is deleted, and when.

use ctedge_ownership::StoreFailure;

use crate::call::{Tx, Work, sql_of};
use crate::entry::{Day, UnixMillis};
use crate::fault::Fault;
use crate::store::Store;

/// Rows that one transaction deletes: others wait for no longer than that takes.
const CHUNK_ROWS: u64 = 1_000;

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Audit entries.
    pub audit: u64,
    /// Usage samples, and users and clients of a day.
    pub usage: u64,
}

impl Store {
    /// Deletes audit entries before `audit`, and usage samples, users and clients of the days before `usage`. The figures of
    /// a day stay: they name nobody. Goes on where it ended when it is called again after a failure.
    pub async fn forget(&self, audit: UnixMillis, usage: Day) -> Result<Forgotten, StoreFailure> {
        let before = audit.0.to_string();
        let mut forgotten = Forgotten::default();
        forgotten.audit += self.delete_all("audit", "id", format!("at_ms < {before}")).await?;
        // What a batch of a process of that time was called; nobody tries to write it again.
        self.delete_all("journal_writers", "writer", format!("at_ms < {before}")).await?;
        let of_days = [
            ("usage_samples", "slot_ms, node"),
            ("usage_users", "day, user_identity"),
            ("usage_clients", "day, role, client"),
        ];
        for (table, columns) in of_days {
            forgotten.usage += self.delete_all(table, columns, format!("day < '{usage}'")).await?;
        }
        Ok(forgotten)
    }

    async fn delete_all(&self, table: &str, columns: &str, condition: String) -> Result<u64, StoreFailure> {
        let text = format!(
            "DELETE FROM {table} WHERE ({columns}) IN \
             (SELECT {columns} FROM {table} WHERE {condition} ORDER BY {columns} LIMIT {CHUNK_ROWS})"
        );
        let work = Delete { text };
        let mut deleted = 0;
        loop {
            let rows = self.report(&work).await?;
            deleted += rows;
            if rows < CHUNK_ROWS {
                return Ok(deleted);
            }
        }
    }
}

/// A statement put together from numbers, a day and names of this program's own tables.
struct Delete {
    text: String,
}

impl Work for Delete {
    type Output = u64;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<u64, Fault> {
        tx.execute(sql_of(self.text.clone())).await
    }
}
