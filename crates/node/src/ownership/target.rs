//! Who gets a session that is handed off: the node that most balancers look for it at.

use ctedge_ownership::{Lease, Ranking};
use ctedge_placement::Rendezvous;
use ctedge_wire::Key;

/// Ranks nodes as the balancers do: by their addresses, under the cluster's seed. Weights are the balancers' own; where
/// they differ, the key costs each of them one redirect.
#[derive(Debug)]
pub(super) struct Placement {
    seed: u64,
    /// The nodes of the last question, since the next one is nearly always about the same.
    nodes: Vec<(String, u16)>,
    rendezvous: Rendezvous,
}

/// All nodes weigh the same here.
const WEIGHT: u16 = 1;

impl Placement {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, nodes: Vec::new(), rendezvous: Rendezvous::new::<String>(seed, &[]) }
    }
}

impl Ranking for Placement {
    fn best(&mut self, key: &Key, ready: &[&Lease]) -> usize {
        let nodes: Vec<_> = ready.iter().map(|lease| (lease.address.to_string(), WEIGHT)).collect();
        if nodes != self.nodes {
            self.rendezvous = Rendezvous::new(self.seed, &nodes);
            self.nodes = nodes;
        }
        self.rendezvous.rank(key.as_str().as_bytes()).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctedge_ownership::{LeaseId, NodeId};
    use ctedge_wire::NodeStatus;

    fn lease(port: u16) -> Lease {
        let id = LeaseId::new(NodeId::new(&format!("node-{port}")), 1);
        let address = ([127, 0, 0, 1], port).into();
        Lease { id, address, beat: 0, status: NodeStatus::Ready, ended: None, report: String::new() }
    }

    #[test]
    fn a_session_goes_where_balancers_look_for_it() {
        let leases: Vec<Lease> = (3001..3005).map(lease).collect();
        let mut placement = Placement::new(7);
        let identities: Vec<_> = leases.iter().map(|lease| (lease.address.to_string(), WEIGHT)).collect();
        let balancer = Rendezvous::new(7, &identities);
        let mut chosen = std::collections::HashSet::new();
        for number in 0..50 {
            let key = Key::parse(&format!("room-{number}")).unwrap();
            let best = placement.best(&key, &leases.iter().collect::<Vec<_>>());
            assert_eq!(Some(best), balancer.rank(key.as_str().as_bytes()).next());
            chosen.insert(best);
            // Without it, the key goes to the next one in the same order.
            let others: Vec<&Lease> = leases.iter().filter(|lease| lease.id != leases[best].id).collect();
            let next = others[placement.best(&key, &others)];
            let second = balancer.rank(key.as_str().as_bytes()).nth(1).unwrap();
            assert_eq!(next.id, leases[second].id);
        }
        assert_eq!(chosen.len(), 4);
    }
}
