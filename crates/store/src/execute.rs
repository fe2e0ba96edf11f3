//! The commands of `ctedge-ownership`, each as one transaction. What each must do is written there, as
//! `StoreModel`; a test holds the two against each other.
//!
//! - `leases`: who lives. `sessions`: who owns what. `peers`: what lies at a session.

mod leases;
pub(crate) mod peers;
mod sessions;

use std::time::Duration;

use ctedge_ownership::{Command, Epoch, LeaseId, Outcome};

use crate::call::{Tx, Work, sql};
use crate::dialect::Access;
use crate::fault::{Fault, FaultKind};

pub(crate) use leases::{all as leases_all, end as end_lease, hold, lives};

/// The store takes at least so many bytes of an estate in a second.
const MIB: f64 = 1024.0 * 1024.0;

/// What reading a session may take beyond the time of any transaction; as long as a request waits for it.
const READ_ALLOWANCE: Duration = Duration::from_secs(8);

impl Work for Command {
    type Output = Outcome;

    fn access(&self) -> Access {
        if matches!(self, Self::Look { .. }) { Access::Read } else { Access::Write }
    }

    /// An estate may be large: each of its peers may be owed `limits.outbox_bytes_max`. Whoever is to take it up does not know
    /// how large it is.
    fn allowance(&self) -> Duration {
        match self {
            Self::HandOff { estate, .. } => Duration::from_secs(1).mul_f64(estate.bytes.len() as f64 / MIB),
            Self::TakeOver { .. } | Self::Read { .. } => READ_ALLOWANCE,
            _ => Duration::ZERO,
        }
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<Outcome, Fault> {
        match self {
            Self::Register { lease, address, pid } => leases::register(tx, lease, *address, *pid).await,
            Self::Beat { lease, status, report } => leases::beat(tx, lease, *status, report).await,
            Self::EndLease { lease, beat, why } => leases::end(tx, lease, *beat, *why, &[]).await,
            Self::Look { key } => Ok(sessions::record(tx, key).await?.map_or(Outcome::Missing, Outcome::Found)),
            Self::Create { key, by } => sessions::create(tx, key, by).await,
            Self::TakeOver { key, from, by } => sessions::take_over(tx, key, *from, by).await,
            Self::Read { key, epoch, by } => sessions::read(tx, key, *epoch, by).await,
            Self::Adopt { key, epoch, by } => sessions::adopt(tx, key, *epoch, by).await,
            Self::HandOff { key, epoch, by, to, estate, reason } => {
                sessions::hand_off(tx, sessions::Claim { key, epoch: *epoch, by }, to.as_ref(), estate, *reason).await
            }
            Self::Keep { key, epoch, by, peers, in_flight } => {
                sessions::keep(tx, sessions::Claim { key, epoch: *epoch, by }, peers, in_flight.as_ref()).await
            }
            Self::Delete { key, epoch, by } => sessions::delete(tx, key, *epoch, by).await,
            Self::Reap { lease } => leases::reap(tx, lease).await,
        }
    }
}

/// The next number of the store's one count. The row stays locked until the transaction ends, so that numbers rise in
/// the order in which transactions take effect.
async fn next_epoch(tx: &mut Tx<'_>) -> Result<Epoch, Fault> {
    let statement = sql("UPDATE counters SET value = value + 1 WHERE name = 'epoch' RETURNING value");
    match tx.row(statement).await? {
        Some(row) => Ok(Epoch(row.number(0)?)),
        None => Err(Fault::new(FaultKind::Broken, "the store has lost its count of epochs")),
    }
}

/// The two columns of a lease.
pub(crate) fn columns(lease: &LeaseId) -> (String, i64) {
    (lease.node.as_str().to_owned(), lease.incarnation.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::{Epoch, Estate, HandoffReason, LeaseId, NodeId};

    #[test]
    fn a_large_estate_may_take_longer_than_the_timeout_of_the_store() {
        let check = |bytes: usize, seconds| {
            let estate = Estate { bytes: vec![0; bytes].into(), ..Estate::default() };
            let by = LeaseId::new(NodeId::new("a"), 1);
            let key = ctedge_wire::Key::parse("room").expect("a key");
            let reason = HandoffReason::Stop;
            let command = Command::HandOff { key, epoch: Epoch(1), by, to: None, estate, reason };
            assert_eq!(command.allowance(), Duration::from_secs(seconds));
        };
        check(0, 0);
        check(64 << 20, 64);
    }
}
