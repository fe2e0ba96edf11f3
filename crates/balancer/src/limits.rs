//! How much one client, and all of them, may hold open at once.
//!
//! A slot is a guard: what was counted is given back when it is dropped, also when a task panics or is cancelled.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A power of two; enough that two threads seldom want the same shard.
const SHARDS: usize = 16;

/// Counts what is open.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    connections: AtomicUsize,
    tunnels: AtomicUsize,
    by_address: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All client connections.
    Connections,
    /// The connections of one address.
    ConnectionsOfAddress,
    /// All tunnels.
    Tunnels,
}

impl Refused {
    /// The word of the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections_per_address",
            Self::Tunnels => "tunnels",
        }
    }
}

/// The right to hold one client connection open.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    limits: Arc<Limits>,
    address: Option<IpAddr>,
}

/// The right to hold one tunnel open.
#[derive(Debug)]
pub(crate) struct TunnelSlot(Arc<Limits>);

impl Limits {
    /// Admits a connection. `address` is `None` for a proxy that is trusted: it speaks for many clients.
    pub(crate) fn admit_connection(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        all_max: usize,
        per_address_max: usize,
    ) -> Result<ConnectionSlot, Refused> {
        if !take(&self.connections, all_max) {
            return Err(Refused::Connections);
        }
        // From here on the guard gives the connection back.
        let mut slot = ConnectionSlot { limits: Arc::clone(self), address: None };
        if let Some(address) = address.map(one_client) {
            let mut counts = self.shard(address).lock();
            let count = counts.entry(address).or_insert(0);
            if *count >= per_address_max {
                return Err(Refused::ConnectionsOfAddress);
            }
            *count += 1;
            slot.address = Some(address);
        }
        Ok(slot)
    }

    /// Admits a tunnel.
    pub(crate) fn admit_tunnel(self: &Arc<Self>, all_max: usize) -> Result<TunnelSlot, Refused> {
        if take(&self.tunnels, all_max) { Ok(TunnelSlot(Arc::clone(self))) } else { Err(Refused::Tunnels) }
    }

    /// Client connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Tunnels that are open.
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let low = match address {
            IpAddr::V4(address) => usize::from(address.octets()[3]),
            IpAddr::V6(address) => usize::from(address.octets()[7]),
        };
        &self.by_address[low % SHARDS]
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.limits.connections.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address else { return };
        let mut counts = self.limits.shard(address).lock();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            // An address without connections leaves no trace, so that the table is bounded by the connections.
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

impl Drop for TunnelSlot {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1)).is_ok()
}

/// An IPv6 client usually has a whole /64 to itself, so that counting single addresses would not bound it.
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_dropped_is_free_again() {
        let limits = Arc::new(Limits::default());
        let first = limits.admit_connection(None, 1, 9).unwrap();
        assert_eq!(limits.admit_connection(None, 1, 9).unwrap_err(), Refused::Connections);
        drop(first);
        limits.admit_connection(None, 1, 9).unwrap();
        assert_eq!(limits.connections(), 0);
    }

    #[test]
    fn one_address_cannot_take_the_connections_of_others() {
        let limits = Arc::new(Limits::default());
        let greedy = Some("192.0.2.1".parse().unwrap());
        let _held = limits.admit_connection(greedy, 9, 1).unwrap();
        assert_eq!(limits.admit_connection(greedy, 9, 1).unwrap_err(), Refused::ConnectionsOfAddress);
        let _other = limits.admit_connection(Some("192.0.2.2".parse().unwrap()), 9, 1).unwrap();
        assert_eq!(limits.connections(), 2, "a refused connection is not counted");
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let limits = Arc::new(Limits::default());
        let _held = limits.admit_connection(Some("2001:db8::1".parse().unwrap()), 9, 1).unwrap();
        let neighbour = Some("2001:db8::2".parse().unwrap());
        assert_eq!(limits.admit_connection(neighbour, 9, 1).unwrap_err(), Refused::ConnectionsOfAddress);
        limits.admit_connection(Some("2001:db8:0:1::1".parse().unwrap()), 9, 1).unwrap();
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let limits = Arc::new(Limits::default());
        drop(limits.admit_connection(Some("192.0.2.1".parse().unwrap()), 9, 9).unwrap());
        assert!(limits.by_address.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn tunnels_are_bounded() {
        let limits = Arc::new(Limits::default());
        let held = limits.admit_tunnel(1).unwrap();
        assert_eq!(limits.admit_tunnel(1).unwrap_err(), Refused::Tunnels);
        drop(held);
        assert_eq!(limits.tunnels(), 0);
    }
}
