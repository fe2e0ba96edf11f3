//! What the node writes into the store behind the messages: peers that come and go, for whoever takes a session over,
//! and what operators want to know.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ctedge_logs::Zone;
use ctedge_ownership::{Epoch, LeaseId};
use ctedge_session::{AuditEvent, AuditKind, StoredPeer};
use ctedge_store::{Audit, Day, Download, Entry, JournalMark, UnixMillis, UsageSample};
use ctedge_wire::Key;
use parking_lot::RwLock;

use super::begin::stored_peer;
use super::keeper::Keeper;
use crate::usage::{Scope, Usage, audit_user};

/// Where the node writes. Cheap to clone. Nothing here waits: entries are queued, in order and bounded.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Inner>);

struct Inner {
    keeper: Arc<Keeper>,
    /// Under which the node owns what it has.
    lease: RwLock<LeaseId>,
    zone: Zone,
}

impl Journal {
    pub(crate) fn new(keeper: Arc<Keeper>, lease: LeaseId, zone: Zone) -> Self {
        Self(Arc::new(Inner { keeper, lease: RwLock::new(lease), zone }))
    }

    /// The node goes on under another incarnation.
    pub(super) fn registered(&self, incarnation: u64) {
        self.0.lease.write().incarnation = incarnation;
    }

    pub(crate) fn peer_joined(&self, key: &Key, epoch: u64, peer: StoredPeer) {
        let (key, epoch, by) = self.owned(key, epoch);
        self.write(Entry::PeerJoined { key, epoch, by, peer: stored_peer(peer) });
    }

    pub(crate) fn peer_left(&self, key: &Key, epoch: u64, clock: u64) {
        let (key, epoch, by) = self.owned(key, epoch);
        self.write(Entry::PeerLeft { key, epoch, by, clock });
    }

    /// How far the journal will be when what was said by now is written. `None` where it is written nowhere.
    pub(crate) fn journaled(&self) -> Option<JournalMark> {
        self.0.keeper.journaled()
    }

    /// Waits until the journal is as far as that.
    pub(crate) async fn written(&self, mark: JournalMark) {
        self.0.keeper.written(mark).await;
    }

    /// The requests in flight; empty when there are none.
    pub(crate) fn in_flight(&self, key: &Key, epoch: u64, bytes: Bytes) {
        let (key, epoch, by) = self.owned(key, epoch);
        self.write(Entry::InFlight { key, epoch, by, bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) });
    }

    /// No requests are in flight, and none are stored.
    pub(crate) fn none_in_flight(&self, key: &Key, epoch: u64) {
        let (key, epoch, by) = self.owned(key, epoch);
        self.0.keeper.note(&Entry::InFlight { key, epoch, by, bytes: None });
    }

    /// A request is in flight beside those that were written last. It is noted until they are written again.
    pub(crate) fn requested(&self, key: &Key, epoch: u64, bytes: Bytes) {
        let (key, epoch, by) = self.owned(key, epoch);
        self.0.keeper.note(&Entry::Requested { key, epoch, by, bytes });
    }

    /// Lets `write` write what was put off.
    pub(crate) fn late(&self, write: impl FnOnce()) {
        self.0.keeper.journal_late(write);
    }

    pub(crate) fn audit(&self, event: &AuditEvent) {
        let (kind, reason) = match event.kind {
            AuditKind::Created => (ctedge_store::AuditEvent::Created, None),
            AuditKind::Joined => (ctedge_store::AuditEvent::Joined, None),
            AuditKind::Left => (ctedge_store::AuditEvent::Left, None),
            AuditKind::Ended(reason) => (ctedge_store::AuditEvent::Ended, Some(reason.as_str())),
        };
        self.write_audit(&event.session, kind, reason, |audit| {
            audit.peer = Some(event.peer.as_str().to_owned());
            audit.user = Some(audit_user(&event.user));
            audit.client = Some(event.client.clone());
        });
    }

    /// Nobody can go on with a session whose owner was lost.
    pub(super) fn lost(&self, key: &Key) {
        self.write_audit(key, ctedge_store::AuditEvent::Ended, Some("lost"), |_| ());
    }

    /// The number of the slot that samples of this time count in.
    pub(crate) fn slot(&self, time: SystemTime) -> u64 {
        self.stamp(time).0.0 / UsageSample::SLOT_MILLIS
    }

    pub(crate) fn usage(&self, time: SystemTime, scope: Scope, usage: Usage) {
        let Usage { users_online, users_in_sessions, sessions, connections } = usage;
        let (at, day) = self.stamp(time);
        let node = (scope == Scope::ThisNode).then(|| self.0.lease.read().node.clone());
        let sample = UsageSample { at, day, node, users_online, users_in_sessions, sessions, connections };
        self.write(Entry::Usage(sample));
    }

    /// A client was downloaded, completely.
    pub(crate) fn downloaded(&self, ide: &str, version: &str, artifact: &str) {
        let (_, day) = self.stamp(SystemTime::now());
        let [ide, version, artifact] = [ide, version, artifact].map(str::to_owned);
        self.write(Entry::Download(Download { day, ide, version, artifact }));
    }

    fn write_audit(
        &self,
        key: &Key,
        event: ctedge_store::AuditEvent,
        reason: Option<&str>,
        add: impl FnOnce(&mut Audit),
    ) {
        let (at, day) = self.stamp(SystemTime::now());
        let node = self.0.lease.read().node.clone();
        let reason = reason.map(str::to_owned);
        let mut audit = Audit { at, day, event, key: key.clone(), node, peer: None, user: None, client: None, reason };
        add(&mut audit);
        self.write(Entry::Audit(audit));
    }

    /// A time, and the day that it counts for.
    pub(super) fn stamp(&self, time: SystemTime) -> (UnixMillis, Day) {
        stamp(&self.0.zone, time)
    }

    fn owned(&self, key: &Key, epoch: u64) -> (Key, Epoch, LeaseId) {
        (key.clone(), Epoch(epoch), self.0.lease.read().clone())
    }

    fn write(&self, entry: Entry) {
        self.0.keeper.journal(entry);
    }
}

fn stamp(zone: &Zone, time: SystemTime) -> (UnixMillis, Day) {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let civil = zone.civil(time);
    let day = Day {
        year: u16::try_from(civil.year()).unwrap_or_default(),
        month: civil.month().unsigned_abs(),
        day: civil.day().unsigned_abs(),
    };
    (UnixMillis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)), day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_day_of_the_figures_begins_at_midnight_of_the_time_zone() {
        // Midnights in which 2027 begins, in milliseconds since 1970.
        for (zone, midnight) in
            [("UTC", 1_798_761_600_000), ("Europe/Berlin", 1_798_758_000_000), ("America/New_York", 1_798_779_600_000)]
        {
            let zone = Zone::named(zone).unwrap();
            let stamped = |millis| stamp(&zone, SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            let (eve, new_year) = (Day { year: 2026, month: 12, day: 31 }, Day { year: 2027, month: 1, day: 1 });
            assert_eq!(stamped(midnight - 1), (UnixMillis(midnight - 1), eve), "{zone:?}");
            assert_eq!(stamped(midnight), (UnixMillis(midnight), new_year), "{zone:?}");
        }
    }
}
