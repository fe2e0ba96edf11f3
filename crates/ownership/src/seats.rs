//! What a node asks of the store for the seats of the license, and is told.

/// How many seats a lease wants to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatWish {
    /// All that it wants to hold.
    pub want: u64,
    /// How many peers that came with their sessions have sat down here since the lease began: what the store kept for
    /// them is in `want`.
    pub sat: u64,
    /// How many peers it has exported with their sessions since the lease began: their seats are not in `want` any more, and
    /// the store keeps them until the sessions have their next owners.
    pub exported: u64,
    /// Rises with each wish of the lease, so that one that is late changes nothing. The first is 1.
    pub number: u64,
}

/// How the seats of a license are shared out, as one lease is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatShare {
    /// What it holds.
    pub held: u64,
    /// What all others have together; for a lease that wants no more, at least so many.
    pub others: u64,
    /// What others want and did not get.
    pub wanted_elsewhere: u64,
}
