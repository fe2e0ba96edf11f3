//! The list of nodes, ranked for a key by `pingora-load-balancing`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ctedge_routing::NodeSpec;
use ctedge_wire::Key;
use pingora::Result;
use pingora::protocols::l4::socket;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::{Backend, Backends, Extensions, LoadBalancer};

use crate::selection::{Selection, SelectionConfig};

/// Ketama puts 160 points a node on its ring, and two nodes' points may follow each other: this many steps a node find
/// all of them but for freak rings, whose missing nodes come last.
const STEPS_PER_NODE: usize = 320;

/// Ranks the nodes of the current list.
pub(crate) struct Placement {
    list: Arc<NodeList>,
    balancer: LoadBalancer<Selection>,
}

/// What the discovery hands to Pingora: the list that the settings and DNS make up.
#[derive(Default)]
struct NodeList(ArcSwap<BTreeSet<Backend>>);

struct Discovery(Arc<NodeList>);

#[async_trait]
impl ServiceDiscovery for Discovery {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        // Which nodes are up is the router's knowledge, so that Pingora's own switch stays unused.
        Ok((BTreeSet::clone(&self.0.0.load()), HashMap::new()))
    }
}

impl Placement {
    pub(crate) fn new(config: SelectionConfig) -> Self {
        let list = Arc::new(NodeList::default());
        let backends = Backends::new(Box::new(Discovery(Arc::clone(&list))));
        Self { list, balancer: LoadBalancer::from_backends_with_config(backends, Some(config)) }
    }

    /// Ranks these nodes from now on. Not to be called by two at once.
    pub(crate) async fn set(&self, nodes: &[NodeSpec]) -> Result<()> {
        let backends = nodes.iter().map(|node| Backend {
            addr: socket::SocketAddr::Inet(node.address),
            // Pingora's hashes panic on a weight of 0.
            weight: usize::from(node.weight.max(1)),
            ext: Extensions::new(),
        });
        self.list.0.store(Arc::new(backends.collect()));
        self.balancer.update().await
    }

    /// The addresses of all nodes, the best for `key` first. Nothing is computed before it is asked for, since a pin
    /// decides most requests; the first costs little, and whoever asks for more pays for all.
    pub(crate) fn rank<'a>(&'a self, key: &Key) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let (key, key_of_others) = (key.clone(), key.clone());
        let first = std::iter::once_with(move || self.first(key.as_str().as_bytes())).flatten();
        let others = std::iter::once_with(move || self.rank_all(key_of_others.as_str().as_bytes())).flatten().skip(1);
        first.chain(others)
    }

    fn first(&self, key: &[u8]) -> Option<SocketAddr> {
        self.balancer.select_with(key, self.steps(), |_, _| true).as_ref().and_then(address)
    }

    fn steps(&self) -> usize {
        self.list.0.load().len() * STEPS_PER_NODE
    }

    fn rank_all(&self, key: &[u8]) -> Vec<SocketAddr> {
        let list = self.list.0.load();
        let ranked = RefCell::new(Vec::with_capacity(list.len()));
        self.balancer.select_with(key, self.steps(), |backend, _| {
            ranked.borrow_mut().extend(address(backend));
            ranked.borrow().len() == list.len()
        });
        let mut ranked = ranked.into_inner();
        for node in list.iter().filter_map(address) {
            if !ranked.contains(&node) {
                ranked.push(node);
            }
        }
        ranked
    }
}

fn address(backend: &Backend) -> Option<SocketAddr> {
    backend.addr.as_inet().copied()
}

#[cfg(test)]
mod tests {
    use ctedge_routing::NodeId;
    use ctedge_settings::PlacementAlgorithm;

    use super::*;

    fn node(host: u8, weight: u16) -> NodeSpec {
        let address = SocketAddr::from(([10, 0, 0, host], 3001));
        NodeSpec { id: NodeId::new(&format!("node-{host}")), address, weight }
    }

    async fn check(algorithm: PlacementAlgorithm) {
        let placement = Placement::new(SelectionConfig { algorithm, seed: 1 });
        let key = Key::parse("room").unwrap();
        assert_eq!(placement.rank(&key).count(), 0);
        placement.set(&[node(1, 1), node(2, 1), node(3, 1000)]).await.unwrap();
        let ranked: Vec<_> = placement.rank(&key).collect();
        assert_eq!(ranked.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(ranked.len(), 3, "each node has one rank");
        placement.set(&[node(1, 1)]).await.unwrap();
        assert_eq!(placement.rank(&key).collect::<Vec<_>>(), [node(1, 1).address]);
    }

    #[tokio::test]
    async fn every_node_of_the_list_has_one_rank() {
        check(PlacementAlgorithm::Rendezvous).await;
        check(PlacementAlgorithm::Ketama).await;
    }
}
