//! What peers sent while their node did not know whether their session is its own.
//!
//! Transports stop reading then, so that few messages come: what was read already, and a body on its way. All the same they
//! are bounded. A peer of which one is lost for want of room would go on with a gap that nobody sees, so that it is sent out
//! of the session once its node knows that it may; until then, nothing more of it is taken.

use std::collections::{BTreeMap, BTreeSet};

use ctedge_session::PeerSlot;

/// What a message costs beside its bytes, so that empty ones are bounded as well.
const OVERHEAD_BYTES: usize = 64;

/// A message, and whose it is.
pub(super) type Message = (PeerSlot, Box<[u8]>);

/// The messages that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Held {
    messages: Vec<Message>,
    bytes: BTreeMap<PeerSlot, usize>,
    full: BTreeSet<PeerSlot>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Whether nothing waited before.
    pub(super) is_first: bool,
    /// Whether there was no room for it.
    pub(super) is_lost: bool,
}

impl Held {
    /// Keeps a message, unless the peer has more than `bytes_max` here with it.
    pub(super) fn keep(&mut self, peer: PeerSlot, message: &[u8], bytes_max: usize) -> Kept {
        let is_first = self.messages.is_empty() && self.full.is_empty();
        let bytes = self.bytes.entry(peer).or_default();
        let with_it = *bytes + message.len() + OVERHEAD_BYTES;
        let is_lost = with_it > bytes_max || self.full.contains(&peer);
        if is_lost {
            self.full.insert(peer);
        } else {
            *bytes = with_it;
            self.messages.push((peer, message.into()));
        }
        Kept { is_first, is_lost }
    }

    /// Takes everything out: the messages, and the peers of which more was lost.
    pub(super) fn take(&mut self) -> (Vec<Message>, BTreeSet<PeerSlot>) {
        let Self { messages, full, .. } = std::mem::take(self);
        (messages, full)
    }

    /// The bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use ctedge_ownership::Fence;
    use ctedge_protocol::{Handshake, RoomClaim, User};
    use ctedge_session::{Attached, Beginning, Session, SessionLimits};
    use ctedge_wire::{ClusterSecret, Key};

    use super::*;
    use crate::hub::Hub;
    use crate::hub::cell::SessionCell;
    use crate::metrics::Metrics;

    /// A node that keeps its sessions to itself, with one that has its host.
    fn hub_with_a_host() -> (Arc<Hub>, Arc<SessionCell>, Attached) {
        let secret = ClusterSecret::new(&"s".repeat(32)).unwrap();
        let file = "[[nodes]]\nid = \"n\"\naddress = \"127.0.0.1:3001\"\n";
        let settings = ctedge_settings::parse(file, &|_| None).unwrap().node("n", secret, 1).unwrap();
        let hub = Hub::new(settings, Metrics::new(), None);
        let (key, beginning) = (Key::parse("room").unwrap(), Beginning::created(Duration::from_secs(1)));
        let session = Session::new(key, SessionLimits::default(), beginning, &[0; 32], Instant::now());
        let cell = hub.keep(session, 0).unwrap();
        let user = User { id: "1".into(), name: "Host".into(), email: None, auth_provider: "test".into() };
        let claim: RoomClaim = cell.host_claim(user);
        let id = hub.tokens().peer_id(&claim);
        let handshake = Handshake::new("a key", None, None);
        let attached = cell.attach(&hub, &claim, id, handshake).unwrap();
        (hub, cell, attached)
    }

    #[tokio::test]
    async fn what_waits_of_each_peer_is_bounded() {
        let (_hub, _cell, Attached { peer, .. }) = hub_with_a_host();
        let mut held = Held::default();
        let bytes_max = 2 * OVERHEAD_BYTES + 10;
        for (message, is_first, is_lost) in [(&[7; 10][..], true, false), (&[7], false, true), (&[], false, true)] {
            assert_eq!(held.keep(peer, message, bytes_max), Kept { is_first, is_lost }, "{message:?}");
        }
        assert_eq!(held.bytes(), OVERHEAD_BYTES + 10);
        let (messages, full) = held.take();
        assert_eq!((messages.len(), full.into_iter().collect::<Vec<_>>()), (1, vec![peer]));
        assert_eq!(held.keep(peer, &[], bytes_max), Kept { is_first: true, is_lost: false });
    }

    #[tokio::test]
    async fn a_message_that_was_to_wait_as_the_gate_opened_does_not_wait_for_the_next_time() {
        let (hub, cell, host) = hub_with_a_host();
        // The gate is open, and who opened it has looked for what waits.
        hub.release_held();
        cell.hold(&hub, host.peer, b"noise");
        let kept = cell.collect(hub.metrics());
        assert_eq!((hub.metrics().messages_in.get(), kept.held), (1, 0));
    }

    #[tokio::test]
    async fn what_waits_as_a_session_leaves_goes_along() {
        let (hub, cell, host) = hub_with_a_host();
        hub.gate().publish(Fence::Closed, Instant::now());
        cell.receive(&hub, host.peer, b"noise");
        assert_eq!((hub.collect().held, hub.metrics().messages_in.get()), (OVERHEAD_BYTES + 5, 0));
        cell.detach(&hub, host.peer, host.attachment);
        assert!(hub.export(cell.key(), Duration::from_secs(5)).await.is_some());
        assert_eq!((hub.collect().held, hub.metrics().messages_in.get()), (0, 1));
    }
}
