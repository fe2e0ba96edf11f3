//! Weighted rendezvous hashing (highest random weight; Thaler and Ravishankar, 1998).
//!
//! Each node draws a number for each key, and the nodes are ranked by what they drew. A node that is added takes
//! exactly the keys for which it drew the highest number, and a node that is removed gives up exactly its own; no
//! other key moves. Weights follow the logarithmic method (Schindelhauer and Schomaker, 2005): with a uniform draw u in
//! (0, 1), the score −w / ln u makes a node the first with a probability of w over the sum of all weights, and a change
//! of one node's weight moves keys only to or from that node.
//!
//! The hash is XXH3 keyed with a secret seed, so that who does not know the seed cannot aim keys at a node.

use std::cmp::Ordering;

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

    /// What `node` drew for the key.
    fn score(&self, key: u64, node: usize) -> Score {
        let Node { identity, weight } = self.nodes[node];
        let draw = xxh3_64_with_seed(&key.to_le_bytes(), identity);
        let score = if self.equal_weights { draw as f64 } else { weighted(draw, weight) };
        Score { score, draw, identity, node }
    }
}

/// −w / ln u, for the draw as a number u strictly between 0 and 1: 53 bits are what an f64 holds exactly.
fn weighted(draw: u64, weight: f64) -> f64 {
    let unit = ((draw >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / unit.ln()
}

/// A node's score, in the order of the ranks: a greater one comes first.
#[derive(Debug, Clone, Copy)]
struct Score {
    score: f64,
    draw: u64,
    identity: u64,
    node: usize,
}

impl Score {
    /// Equal scores are told apart by what does not depend on the order of the list, so that all balancers agree; the
    /// index only tells apart two entries of one identity.
    fn compare(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(self.draw.cmp(&other.draw))
            .then(self.identity.cmp(&other.identity))
            .then(other.node.cmp(&self.node))
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
        let best = self.behind_the_last(rendezvous).max_by(Score::compare)?;
        self.last = Some(best);
        Some(best.node)
    }

    fn behind_the_last<'a>(&self, rendezvous: &'a Rendezvous) -> impl Iterator<Item = Score> + use<'a> {
        let (key, last) = (self.key, self.last);
        let scores = (0..rendezvous.len()).map(move |node| rendezvous.score(key, node));
        scores.filter(move |score| last.is_none_or(|last| score.compare(&last).is_lt()))
    }

    fn sorted_rest(&self, rendezvous: &Rendezvous) -> std::vec::IntoIter<usize> {
        let mut rest: Vec<Score> = self.behind_the_last(rendezvous).collect();
        rest.sort_unstable_by(|one, other| other.compare(one));
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
