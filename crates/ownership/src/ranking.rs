//! Who gets a session that is handed off: placement's matter, handed in.

use ctedge_wire::Key;

use crate::record::Lease;

/// Chooses among nodes for a key.
pub trait Ranking: std::fmt::Debug + Send {
    /// The index of the best of `ready` for `key`. `ready` is not empty, and ordered by lease. Whoever answers with an index out of
    /// range gets the first.
    fn best(&mut self, key: &Key, ready: &[&Lease]) -> usize;
}
