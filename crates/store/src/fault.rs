//! What may go wrong with a store, and what that means for whoever called.

use ctedge_ownership::StoreFailure;

/// Why a store could not be opened. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one that a driver accepts.
    #[error("store.url cannot be used: {0}")]
    Url(String),
    /// The folder of the file cannot be made or written to.
    #[error(
        "store.url: the folder {path} cannot be made: {source}; name a file in a folder that the user who runs the edge may \
         write to"
    )]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Tables were made by a later version of this program.
    #[error(
        "the store {store} has the schema {found}, which is newer than {known}, the newest that this version of ctedge \
         knows: start the newer version, or restore the backup from before its first start"
    )]
    Newer {
        /// Which store.
        store: String,
        /// Its schema.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// The store does not answer, or refuses.
    #[error(
        "store.url: the store {store} cannot be used: {problem}; see that there is such a database, and that it lets this user \
         write"
    )]
    Failed {
        /// Which store.
        store: String,
        /// What it said.
        problem: String,
        /// What kind of failure it is; it may pass by itself unless it is [`StoreFailure::Broken`].
        failure: StoreFailure,
    },
}

/// What went wrong with one try.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) problem: String,
}

/// What a fault means for whoever called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Another transaction was in the way; nothing was changed, and the same again may succeed at once.
    Busy,
    /// The connection is gone.
    Unreachable,
    /// The answer took too long.
    Slow,
    /// There is no room left.
    Full,
    /// The database is not what it should be.
    Broken,
    /// The database refused these very values; the same again will be refused again.
    Refused,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, problem: impl Into<String>) -> Self {
        Self { kind, problem: problem.into() }
    }

    /// What the caller is told.
    pub(crate) fn failure(&self) -> StoreFailure {
        match self.kind {
            FaultKind::Busy | FaultKind::Slow => StoreFailure::Slow,
            FaultKind::Unreachable => StoreFailure::Unreachable,
            FaultKind::Full => StoreFailure::Full,
            FaultKind::Broken | FaultKind::Refused => StoreFailure::Broken,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(refusal) => refusal.code().map_or(FaultKind::Broken, |code| by_code(&code)),
            sqlx::Error::Io(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            | sqlx::Error::Tls(_) => FaultKind::Unreachable,
            _ => FaultKind::Broken,
        };
        Self { kind, problem: error.to_string() }
    }
}

/// SQLSTATEs of PostgreSQL have five characters (its manual, appendix A); SQLite's result codes are numbers, whose low
/// byte is the primary code (<https://www.sqlite.org/rescode.html>).
fn by_code(code: &str) -> FaultKind {
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => by_sqlite_code(number & 0xff),
        _ => by_sqlstate(code),
    }
}

fn by_sqlite_code(primary: u32) -> FaultKind {
    match primary {
        // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL (a race of locks when a WAL is opened).
        5 | 6 | 15 => FaultKind::Busy,
        // SQLITE_IOERR, SQLITE_FULL: what a file system without room says, in one way or the other.
        10 | 13 => FaultKind::Full,
        // SQLITE_CANTOPEN, SQLITE_INTERRUPT.
        14 | 9 => FaultKind::Unreachable,
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE.
        18 | 19 | 20 | 25 => FaultKind::Refused,
        _ => FaultKind::Broken,
    }
}

fn by_sqlstate(code: &str) -> FaultKind {
    match (&code[..2.min(code.len())], code) {
        // Serialization failure, deadlock, lock timeout, and two tables made at once.
        (_, "40001" | "40P01" | "55P03") => FaultKind::Busy,
        // A statement that was cancelled: its time was over.
        (_, "57014") => FaultKind::Slow,
        (_, "53100") => FaultKind::Full,
        // Idle in a transaction for too long: this process was away.
        (_, "25P03") => FaultKind::Unreachable,
        // A server that stops, starts, is a standby or has no connection left.
        ("08" | "57" | "53", _) | (_, "25006") => FaultKind::Unreachable,
        ("22" | "23", _) => FaultKind::Refused,
        // The system below the database: a disk that fails or is full.
        ("58", _) => FaultKind::Full,
        _ => FaultKind::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_the_same_in_both_databases() {
        for (sqlite, postgres, kind) in [
            ("5", "40001", FaultKind::Busy),
            // SQLITE_BUSY_SNAPSHOT.
            ("517", "40P01", FaultKind::Busy),
            ("13", "53100", FaultKind::Full),
            // SQLITE_IOERR_WRITE.
            ("778", "58030", FaultKind::Full),
            ("14", "57P01", FaultKind::Unreachable),
            // SQLITE_CONSTRAINT_UNIQUE.
            ("2067", "23505", FaultKind::Refused),
            // A byte 0 in text.
            ("20", "22021", FaultKind::Refused),
            // A file that is no database, a password that is wrong.
            ("26", "28P01", FaultKind::Broken),
            // A table that is not there.
            ("1", "42P01", FaultKind::Broken),
        ] {
            assert_eq!((by_code(sqlite), by_code(postgres)), (kind, kind), "{sqlite} {postgres}");
        }
    }
}
