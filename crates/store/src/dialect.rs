//! Everything in which the two databases differ.
//!
//! All other statements are the same text for both: numbered parameters (`$1`), whole numbers of 64 bits, text and bytes,
//! `ON CONFLICT`, `IS NULL`. There are no booleans, since SQLite has none.
//!
//! The two lock differently. SQLite's writers begin with `BEGIN IMMEDIATE` and have the whole file to themselves.
//! PostgreSQL runs at READ COMMITTED, and a transaction locks what it must not see change: first the lease that gives the
//! command, then the record, then a counter. Who ends a lease takes it with `FOR UPDATE`, who relies on one takes `FOR KEY
//! SHARE`, and the heartbeat's plain update conflicts with neither, so that no crowd of commands keeps it waiting.

use std::path::Path;
use std::time::Duration;

use ctedge_settings::StoreUrl;

use crate::fault::OpenError;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// Whether a transaction changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Dialect {
    pub(crate) fn of(url: &StoreUrl) -> Self {
        match url {
            StoreUrl::Sqlite(_) => Self::Sqlite,
            StoreUrl::Postgres(_) => Self::Postgres,
        }
    }

    /// What begins a transaction. Everything that one reads is of one moment.
    pub(crate) fn begin(self, access: Access) -> &'static str {
        match (self, access) {
            (Self::Sqlite, Access::Read) => "BEGIN",
            (Self::Sqlite, Access::Write) => "BEGIN IMMEDIATE",
            (Self::Postgres, Access::Read) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            (Self::Postgres, Access::Write) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// What each connection is set to before it is used.
    ///
    /// The times make a server let go of what a client holds that was stopped in the middle: others wait for these locks.
    pub(crate) fn setup(self, timeout: Duration) -> String {
        let milliseconds = timeout.as_millis().max(1);
        match self {
            // A commit in WAL mode need not wait for the disk: only the machine's own crash could lose it, and that ends
            // every process which could have relied on it. The log is cut back after a burst.
            //
            // SQLite's own waiting for a lock sleeps for longer and longer, so that a busy process starves the others. Ours
            // does not, and takes over soon.
            Self::Sqlite => "PRAGMA busy_timeout = 5; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
                 PRAGMA journal_size_limit = 67108864"
                .to_owned(),
            Self::Postgres => format!(
                "SET application_name = 'ctedge'; SET statement_timeout = {milliseconds}; \
                 SET lock_timeout = {milliseconds}; SET idle_in_transaction_session_timeout = {milliseconds}; \
                 SET client_min_messages = warning"
            ),
        }
    }

    /// Reads whether lease ($1, $2) has ended, and keeps others from ending it until the transaction is over.
    pub(crate) fn hold_lease(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT ended FROM leases WHERE node = $1 AND incarnation = $2",
            Self::Postgres => "SELECT ended FROM leases WHERE node = $1 AND incarnation = $2 FOR KEY SHARE",
        }
    }

    /// Reads lease ($1, $2) and waits for everybody who relies on it.
    pub(crate) fn seize_lease(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT ended, beat FROM leases WHERE node = $1 AND incarnation = $2",
            Self::Postgres => "SELECT ended, beat FROM leases WHERE node = $1 AND incarnation = $2 FOR UPDATE",
        }
    }

    /// Waits for everybody who relies on a lease at the address $1.
    pub(crate) fn seize_leases_at(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT node FROM leases WHERE address = $1",
            Self::Postgres => "SELECT node FROM leases WHERE address = $1 ORDER BY node, incarnation FOR UPDATE",
        }
    }

    /// Reads the owner of the session $1, and keeps it.
    pub(crate) fn hold_session(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT owner_node, owner_incarnation, epoch FROM sessions WHERE session_key = $1",
            Self::Postgres => {
                "SELECT owner_node, owner_incarnation, epoch FROM sessions WHERE session_key = $1 FOR UPDATE"
            }
        }
    }

    /// What follows a `SELECT` from one table, in order, whose rows are to stay as they are.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// `text` with the names of column types in it. PostgreSQL would order text by the language of its machine otherwise.
    pub(crate) fn types(self, text: &str) -> String {
        let (words, bytes, serial) = match self {
            Self::Sqlite => ("TEXT", "BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT"),
            Self::Postgres => ("TEXT COLLATE \"C\"", "BYTEA", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
        };
        text.replace("{text}", words).replace("{bytes}", bytes).replace("{serial}", serial)
    }

    /// Keeps other processes from making tables until the transaction is over. SQLite's transaction does so by itself.
    pub(crate) fn hold_schema(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT 1",
            // Any number does that no other program uses: "ctedge" in ASCII.
            Self::Postgres => "SELECT pg_advisory_xact_lock(109343147517797)",
        }
    }
}

/// The URL as the driver wants it. A file is made when it is missing, and its folder.
pub(crate) fn driver_url(url: &StoreUrl) -> Result<String, OpenError> {
    match url {
        StoreUrl::Postgres(url) => Ok(url.clone()),
        StoreUrl::Sqlite(path) => {
            let path = std::path::absolute(path).map_err(|error| OpenError::Url(error.to_string()))?;
            if let Some(folder) = path.parent() {
                let failed = |source| OpenError::Folder { path: folder.display().to_string(), source };
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            Ok(format!("sqlite://{}?mode=rwc", escaped(&path)?))
        }
    }
}

/// The driver reads `%`, `?` and `#` in its own way, and only paths that are UTF-8.
fn escaped(path: &Path) -> Result<String, OpenError> {
    let text = path.to_str().ok_or_else(|| OpenError::Url(format!("{} is not UTF-8", path.display())))?;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'~' => escaped.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(escaped)
}
