//! The store that nodes share.

use std::path::PathBuf;
use std::time::Duration;

use crate::store_url::StoreUrl;

/// The store that nodes share, and what is kept in it for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where it is.
    pub url: StoreUrl,
    /// How long one call may take, waiting for its turn included.
    pub timeout: Duration,
    /// Connections of one process that carry out commands; SQLite has one writer whatever this says.
    pub connections: usize,
    /// Entries that wait to be written, at most.
    pub journal_entries_max: usize,
    /// The folder in which the processes of this machine note what the store does not have yet. `None` notes nothing.
    pub notes: Option<PathBuf>,
    /// Days for which audit entries are kept.
    pub audit_days: u32,
    /// Days for which usage samples and the users of a day are kept; sums of a day are kept for ever.
    pub usage_days: u32,
}
