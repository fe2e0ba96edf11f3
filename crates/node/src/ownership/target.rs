//! Who gets a session that is handed off: the node that balancers look for it at, unless it has no room.

use std::sync::Arc;

use ctedge_ownership::{Lease, Ranking};
use ctedge_placement::Rendezvous;
use ctedge_settings::NodeWeights;
use ctedge_wire::Key;
use parking_lot::Mutex;

use crate::figures::says_full;

/// Ranks nodes as the balancers do: by their addresses and weights, under the cluster's seed. Where a balancer has other weights,
/// the key costs it one redirect.
#[derive(Debug)]
pub(super) struct Placement {
    seed: u64,
    weights: Arc<Mutex<NodeWeights>>,
    /// The nodes of the last question, since the next one is nearly always about the same.
    nodes: Vec<(String, u16)>,
    rendezvous: Rendezvous,
}

impl Placement {
    pub(super) fn new(seed: u64, weights: Arc<Mutex<NodeWeights>>) -> Self {
        Self { seed, weights, nodes: Vec::new(), rendezvous: Rendezvous::new::<String>(seed, &[]) }
    }
}

impl Ranking for Placement {
    fn best(&mut self, key: &Key, ready: &[&Lease]) -> usize {
        let weights = self.weights.lock();
        let nodes: Vec<_> = ready.iter().map(|lease| (lease.address.to_string(), weights.of(lease.address))).collect();
        if nodes != self.nodes {
            self.rendezvous = Rendezvous::new(self.seed, &nodes);
            self.nodes = nodes;
        }
        let mut ranked = self.rendezvous.rank(key.as_str().as_bytes());
        let first = ranked.clone().next().unwrap_or_default();
        // Where all are full, the session is better off there than nowhere.
        ranked.find(|node| !says_full(&ready[*node].report)).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::{LeaseId, NodeId};
    use ctedge_settings::{DnsNodes, NodeAddress, NodeSource};
    use ctedge_wire::NodeStatus;

    fn lease(port: u16) -> Lease {
        let id = LeaseId::new(NodeId::new(&format!("node-{port}")), 1);
        let address = ([127, 0, 0, 1], port).into();
        Lease { id, address, beat: 0, status: NodeStatus::Ready, ended: None, report: String::new() }
    }

    fn best(placement: &mut Placement, key: &Key, leases: &[Lease]) -> usize {
        placement.best(key, &leases.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_session_goes_where_balancers_look_for_it_and_on_from_a_full_node() {
        let leases: Vec<Lease> = (3001..3005).map(lease).collect();
        let node = |lease: &Lease, weight| NodeAddress {
            id: lease.id.node.as_str().to_owned(),
            address: lease.address,
            listen: lease.address,
            weight,
        };
        // One is known by name, and one not at all.
        let dns = vec![DnsNodes { name: "nodes".to_owned(), port: 3003, weight: 400 }];
        let nodes = NodeSource { fixed: vec![node(&leases[0], 50), node(&leases[1], 200)], dns };
        let mut placement = Placement::new(7, Arc::new(Mutex::new(NodeWeights::new(&nodes))));
        let identities: Vec<_> =
            leases.iter().zip([50, 200, 400, 100]).map(|(lease, weight)| (lease.address.to_string(), weight)).collect();
        let balancer = Rendezvous::new(7, &identities);
        let mut chosen = [0; 4];
        for number in 0..200 {
            let key = Key::parse(&format!("room-{number}")).unwrap();
            let ranks: Vec<_> = balancer.rank(key.as_str().as_bytes()).collect();
            assert_eq!(best(&mut placement, &key, &leases), ranks[0]);
            chosen[ranks[0]] += 1;
            // Without it, the key goes to the next one in the same order.
            let others: Vec<Lease> = leases.iter().filter(|lease| lease.id != leases[ranks[0]].id).cloned().collect();
            assert_eq!(others[best(&mut placement, &key, &others)].id, leases[ranks[1]].id);

            let mut full = leases.clone();
            full[ranks[0]].report = r#"{"full":true}"#.to_owned();
            assert_eq!(best(&mut placement, &key, &full), ranks[1]);
            full.iter_mut().for_each(|lease| lease.report = r#"{"full":true}"#.to_owned());
            assert_eq!(best(&mut placement, &key, &full), ranks[0]);
        }
        assert!(chosen[0] < chosen[3] && chosen[3] < chosen[1] && chosen[1] < chosen[2], "{chosen:?}");
    }
}
