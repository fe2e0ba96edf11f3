//! Placement as Pingora's load balancer runs it: rendezvous hashing of our own, or the ketama that Pingora ships.
//!
//! A selection is built anew from the list of nodes whenever the list changes, and holds nothing else. Which nodes are
//! up is not its business: the router goes down the ranks until one can serve.

use std::collections::BTreeSet;
use std::sync::Arc;

use ctedge_placement::{Ranking, Rendezvous};
use ctedge_settings::PlacementAlgorithm;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::consistent::{KetamaHashing, OwnedNodeIterator};
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

/// Which hash, and under which seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SelectionConfig {
    pub(crate) algorithm: PlacementAlgorithm,
    /// Keys the rendezvous hash. Ketama has no seed.
    pub(crate) seed: u64,
}

/// The nodes of one list, ready to be ranked.
pub(crate) enum Selection {
    Rendezvous { ranks: Rendezvous, backends: Vec<Backend> },
    Ketama(Arc<KetamaHashing>),
}

/// The nodes in the order of their ranks for one key.
pub(crate) enum Ranks {
    Rendezvous { selection: Arc<Selection>, ranking: Ranking },
    Ketama(OwnedNodeIterator),
}

impl BackendSelection for Selection {
    type Iter = Ranks;
    type Config = SelectionConfig;

    fn build_with_config(backends: &BTreeSet<Backend>, config: &SelectionConfig) -> Self {
        match config.algorithm {
            PlacementAlgorithm::Rendezvous => {
                // A node's identity is its address, so that all balancers agree whatever they call it.
                let weighted: Vec<(String, u16)> = backends
                    .iter()
                    .map(|backend| (backend.addr.to_string(), u16::try_from(backend.weight).unwrap_or(u16::MAX)))
                    .collect();
                let ranks = Rendezvous::new(config.seed, &weighted);
                Self::Rendezvous { ranks, backends: backends.iter().cloned().collect() }
            }
            PlacementAlgorithm::Ketama => Self::Ketama(Arc::new(KetamaHashing::build(backends))),
        }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &SelectionConfig { algorithm: PlacementAlgorithm::Rendezvous, seed: 0 })
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Ranks {
        match &**self {
            Self::Rendezvous { ranks, .. } => {
                Ranks::Rendezvous { selection: Arc::clone(self), ranking: ranks.ranking(key) }
            }
            Self::Ketama(ring) => Ranks::Ketama(ring.iter(key)),
        }
    }
}

impl BackendIter for Ranks {
    fn next(&mut self) -> Option<&Backend> {
        match self {
            Self::Rendezvous { selection, ranking } => match &**selection {
                Selection::Rendezvous { ranks, backends } => ranking.next(ranks).map(|index| &backends[index]),
                Selection::Ketama(_) => None,
            },
            Self::Ketama(ring) => ring.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(algorithm: PlacementAlgorithm, seed: u64, key: &[u8]) -> Vec<String> {
        let backends: BTreeSet<Backend> =
            (1..=5).map(|host| Backend::new(&format!("10.0.0.{host}:3001")).unwrap()).collect();
        let selection = Arc::new(Selection::build_with_config(&backends, &SelectionConfig { algorithm, seed }));
        let mut ranks = selection.iter(key);
        let mut seen = Vec::new();
        while seen.len() < backends.len() {
            let address = ranks.next().unwrap().addr.to_string();
            if !seen.contains(&address) {
                seen.push(address);
            }
        }
        seen
    }

    #[test]
    fn both_hashes_rank_every_node() {
        for algorithm in [PlacementAlgorithm::Rendezvous, PlacementAlgorithm::Ketama] {
            assert_eq!(ranked(algorithm, 7, b"room").len(), 5);
            assert_eq!(ranked(algorithm, 7, b"room"), ranked(algorithm, 7, b"room"));
        }
    }

    #[test]
    fn the_seed_decides_where_a_key_goes() {
        let firsts = |seed| -> Vec<String> {
            let keys = (0..32).map(|key: u32| key.to_string());
            keys.map(|key| ranked(PlacementAlgorithm::Rendezvous, seed, key.as_bytes()).remove(0)).collect()
        };
        assert_ne!(firsts(1), firsts(2));
    }
}
