//! Weighted rendezvous hashing (highest random weight; Thaler and Ravishankar, 1998).
//!
//! Each node draws a number for each key, and the nodes are ranked by what they drew. A node that is added takes
//! exactly the keys for which it drew the highest number, and a node that is removed gives up exactly its own; no
//! other key moves. Weights follow the logarithmic method (Schindelhauer and Schomaker, 2005): with a uniform draw u in
//! (0, 1), the score −w / ln u makes a node the first with a probability of w over the sum of all weights, and a change
//! of one node's weight moves keys only to or from that node.
//!
//! The hash is XXH3 keyed with a secret seed, so that who does not know the seed cannot aim keys at a node.

use std::cmp::Reverse;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// So many ranks are found by a pass over all nodes each, without memory; who asks for more gets the rest sorted.
/// Nearly every caller takes the first or the second.
const LAZY_RANKS: u32 = 6;

/// The nodes of one list, ready to be ranked for a key. The nodes are named by their index in that list.
#[derive(Debug, Clone)]
pub struct Rendezvous {
    seed: u64,
    nodes: Vec<Node>,
    /// Equal weights need no logarithms: the score grows with the draw.
    equal_weights: bool,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The hash of the node's identity under the seed: it keys the node's draws.
    identity: u64,
    weight: f64,
}

impl Rendezvous {
    /// Takes the nodes as (identity, weight). The identity is what all balancers know a node by: its address. A node
    /// of weight 0 ranks behind all others. The order of the list does not matter to the ranks.
    #[must_use]
    pub fn new<I: AsRef<[u8]>>(seed: u64, nodes: &[(I, u16)]) -> Self {
        let hashed = |(identity, weight): &(I, u16)| Node {
            identity: xxh3_64_with_seed(identity.as_ref(), seed),
            weight: f64::from(*weight),
        };
        let equal_weights = nodes.windows(2).all(|pair| pair[0].1 == pair[1].1);
        Self { seed, nodes: nodes.iter().map(hashed).collect(), equal_weights }
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The indices of all nodes, the best for `key` first. Only as much is computed as is taken.
    #[must_use]
    pub fn rank(&self, key: &[u8]) -> Ranked<'_> {
        Ranked { rendezvous: self, ranking: self.ranking(key) }
    }

    /// The same as [`Self::rank`] for who cannot hold a borrow.
    #[must_use]
    pub fn ranking(&self, key: &[u8]) -> Ranking {
        Ranking { key: xxh3_64_with_seed(key, self.seed), taken: 0, last: None, rest: None }
    }

    /// The best of the nodes that `qualifies` lets pass. This is the hot loop: what does not change from node to node is
    /// decided outside of it.
    fn best(&self, key: u64, qualifies: impl Fn(&Score) -> bool) -> Option<Score> {
        if self.equal_weights {
            best(self.scores(key, |draw, _| draw), qualifies)
        } else {
            best(self.scores(key, weighted), qualifies)
        }
    }

    fn all(&self, key: u64) -> Vec<Score> {
        if self.equal_weights {
            self.scores(key, |draw, _| draw).collect()
        } else {
            self.scores(key, weighted).collect()
        }
    }

    /// What all nodes drew for the key.
    fn scores(&self, key: u64, score: impl Fn(u64, f64) -> u64) -> impl Iterator<Item = Score> {
        self.nodes.iter().enumerate().map(move |(index, node)| {
            let draw = mix(key ^ node.identity);
            Score { score: score(draw, node.weight), draw, node: index }
        })
    }
}

fn best(scores: impl Iterator<Item = Score>, qualifies: impl Fn(&Score) -> bool) -> Option<Score> {
    // Below every score there is: no node has that index.
    let mut best = Score { score: 0, draw: 0, node: usize::MAX };
    for score in scores {
        if score.is_above(&best) && qualifies(&score) {
            best = score;
        }
    }
    (best.node != usize::MAX).then_some(best)
}

/// Makes a draw of the hashes of key and node, a different one of each different input. Both hashes are keyed and even
/// already, so that the finalizer of SplitMix64 (Stafford's variant 13) is enough to make a node's draws independent of
/// all others'.
fn mix(hashes: u64) -> u64 {
    let mixed = (hashes ^ (hashes >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// −w / ln u, for the draw as a number u strictly between 0 and 1: 53 bits are what an f64 holds exactly. The score is
/// never negative, and the bits of such a number are ordered as the number is.
fn weighted(draw: u64, weight: f64) -> u64 {
    let unit = ((draw >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    (weight / -unit.ln()).to_bits()
}

/// A node's score, in the order of the ranks: a greater one comes first.
#[derive(Debug, Clone, Copy)]
struct Score {
    score: u64,
    draw: u64,
    node: usize,
}

impl Score {
    /// Equal scores are told apart by the draws, which depend on no order of the list, so that all balancers agree.
    /// Equal draws have only two entries of one identity, of which the first comes first.
    fn is_above(&self, other: &Self) -> bool {
        self.score > other.score || (self.score == other.score && self.tie_break() > other.tie_break())
    }

    fn tie_break(&self) -> (u64, Reverse<usize>) {
        (self.draw, Reverse(self.node))
    }
}

/// How far the ranking of one key has come. It belongs to the [`Rendezvous`] that started it.
#[derive(Debug, Clone)]
pub struct Ranking {
    key: u64,
    taken: u32,
    last: Option<Score>,
    rest: Option<std::vec::IntoIter<usize>>,
}

impl Ranking {
    /// The index of the next best node of `rendezvous`, which must be the one that started this ranking.
    pub fn next(&mut self, rendezvous: &Rendezvous) -> Option<usize> {
        if let Some(rest) = &mut self.rest {
            return rest.next();
        }
        if self.taken == LAZY_RANKS {
            return self.rest.insert(self.sorted_rest(rendezvous)).next();
        }
        self.taken += 1;
        let best = match self.last {
            None => rendezvous.best(self.key, |_| true),
            Some(last) => rendezvous.best(self.key, |score| last.is_above(score)),
        };
        self.last = best;
        best.map(|score| score.node)
    }

    fn sorted_rest(&self, rendezvous: &Rendezvous) -> std::vec::IntoIter<usize> {
        let mut rest = rendezvous.all(self.key);
        rest.retain(|score| self.last.is_some_and(|last| last.is_above(score)));
        rest.sort_unstable_by_key(|score| Reverse((score.score, score.tie_break())));
        rest.into_iter().map(|score| score.node).collect::<Vec<_>>().into_iter()
    }
}

/// The nodes in the order of their ranks for one key. See [`Rendezvous::rank`].
#[derive(Debug, Clone)]
pub struct Ranked<'a> {
    rendezvous: &'a Rendezvous,
    ranking: Ranking,
}

impl Iterator for Ranked<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.ranking.next(self.rendezvous)
    }
}
