//! What balancers rely on: even shares, minimal movement, weights, and a seed that matters.

use ctedge_placement::Rendezvous;
use proptest::prelude::*;

const SEED: u64 = 0x5EED;

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("10.0.{}.{}:3001", index / 200, index % 200 + 1)).collect()
}

fn equal(count: usize) -> Vec<(String, u16)> {
    addresses(count).into_iter().map(|address| (address, 1)).collect()
}

fn keys(count: u32) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(u32::to_le_bytes)
}

fn first(placement: &Rendezvous, key: &[u8]) -> usize {
    placement.rank(key).next().expect("there are nodes")
}

/// How many of `count` keys each node ranks first for.
fn shares(placement: &Rendezvous, count: u32) -> Vec<u32> {
    let mut shares = vec![0; placement.len()];
    keys(count).for_each(|key| shares[first(placement, &key)] += 1);
    shares
}

/// The fullest node relative to the mean. A perfect hash gives about 1.005, 1.02 and 1.05; ketama 1.06, 1.09 and 1.18.
#[test]
fn a_hundred_thousand_keys_spread_evenly() {
    for (nodes, bound) in [(3, 1.015), (10, 1.035), (50, 1.08)] {
        let shares = shares(&Rendezvous::new(SEED, &equal(nodes)), 100_000);
        let most = f64::from(*shares.iter().max().expect("nodes")) / (100_000.0 / nodes as f64);
        assert!(most < bound, "{nodes} nodes: max/mean {most}");
    }
}

/// The second ranks of one node's keys spread as well: they are where its keys go when it dies.
#[test]
fn the_keys_of_a_node_that_dies_spread_over_all_others() {
    let placement = Rendezvous::new(SEED, &equal(10));
    let mut heirs = [0_u32; 10];
    for key in keys(100_000) {
        let mut ranked = placement.rank(&key);
        if ranked.next() == Some(0) {
            heirs[ranked.next().expect("a second rank")] += 1;
        }
    }
    let (most, least) = (heirs[1..].iter().max(), heirs[1..].iter().min());
    assert!(most < Some(&1_250) && least > Some(&970), "{heirs:?}");
}

#[test]
fn adding_a_node_moves_its_share_and_no_more() {
    for (nodes, expected) in [(3, 0.25), (10, 1.0 / 11.0), (50, 1.0 / 51.0)] {
        let (before, after) = (Rendezvous::new(SEED, &equal(nodes)), Rendezvous::new(SEED, &equal(nodes + 1)));
        let moved = keys(100_000).filter(|key| first(&before, key) != first(&after, key)).count();
        let moved = moved as f64 / 100_000.0;
        assert!((moved / expected - 1.0).abs() < 0.06, "{nodes} nodes: {moved} moved");
    }
}

#[test]
fn shares_are_proportional_to_weights() {
    let weights = [1, 2, 3, 4, 0, 10];
    let nodes: Vec<_> = addresses(6).into_iter().zip(weights).collect();
    let shares = shares(&Rendezvous::new(SEED, &nodes), 200_000);
    for (share, weight) in shares.iter().zip(weights) {
        let expected = 10_000 * u32::from(weight);
        assert!(share.abs_diff(expected) <= expected / 30, "{shares:?}");
    }
}

#[test]
fn equal_weights_give_the_same_ranks_whatever_they_are() {
    let ranks = |weights: &[u16]| {
        let nodes: Vec<_> = addresses(weights.len()).into_iter().zip(weights.iter().copied()).collect();
        let placement = Rendezvous::new(SEED, &nodes);
        keys(200).map(|key| placement.rank(&key).take(3).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(ranks(&[1; 8]), ranks(&[1_000; 8]));
    // The eighth node has the weight that sends this through the logarithms; it is ranked last.
    assert_eq!(ranks(&[1, 1, 1, 1, 1, 1, 1]), ranks(&[5, 5, 5, 5, 5, 5, 5, 0]));
}

#[test]
fn another_seed_places_anew() {
    let (one, other) = (Rendezvous::new(1, &equal(10)), Rendezvous::new(2, &equal(10)));
    let same = keys(10_000).filter(|key| first(&one, key) == first(&other, key)).count();
    assert!((850..1_150).contains(&same), "{same} of 10,000 stay by chance");
}

#[test]
fn no_nodes_have_no_ranks() {
    assert_eq!(Rendezvous::new(SEED, &equal(0)).rank(b"key").next(), None);
}

fn nodes() -> impl Strategy<Value = Vec<(String, u16)>> {
    prop::collection::btree_map("[a-z0-9.:]{1,12}", 1..=1_000_u16, 1..20).prop_map(|nodes| nodes.into_iter().collect())
}

fn ranked<'a>(nodes: &'a [(String, u16)], key: &[u8]) -> Vec<&'a str> {
    let placement = Rendezvous::new(SEED, nodes);
    placement.rank(key).map(|index| nodes[index].0.as_str()).collect()
}

proptest! {
    #[test]
    fn every_node_is_ranked_once(nodes in nodes(), key in any::<Vec<u8>>()) {
        let mut ranks = ranked(&nodes, &key);
        ranks.sort_unstable();
        prop_assert_eq!(ranks, nodes.iter().map(|(address, _)| address.as_str()).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(nodes in nodes(), turn in 0..20_usize, key in any::<Vec<u8>>()) {
        let mut turned = nodes.clone();
        turned.rotate_left(turn % nodes.len());
        turned.reverse();
        prop_assert_eq!(ranked(&nodes, &key), ranked(&turned, &key));
    }

    #[test]
    fn removing_a_node_leaves_the_order_of_all_others(nodes in nodes(), gone in 0..20_usize, key in any::<Vec<u8>>()) {
        let gone = gone % nodes.len();
        let mut left = nodes.clone();
        let (name, _) = left.remove(gone);
        let before: Vec<_> = ranked(&nodes, &key).into_iter().filter(|address| *address != name).collect();
        prop_assert_eq!(before, ranked(&left, &key));
    }

    #[test]
    fn a_changed_weight_moves_keys_only_to_or_from_its_node(
        nodes in nodes(), changed in 0..20_usize, weight in 1..=1_000_u16, key in any::<Vec<u8>>(),
    ) {
        let changed = changed % nodes.len();
        let mut after = nodes.clone();
        after[changed].1 = weight;
        let name = nodes[changed].0.as_str();
        let (old, new) = (ranked(&nodes, &key)[0], ranked(&after, &key)[0]);
        let grew = weight > nodes[changed].1;
        let receiver_or_giver = if grew { new } else { old };
        prop_assert!(old == new || receiver_or_giver == name);
    }

    #[test]
    fn a_ranking_that_borrows_nothing_yields_the_same(nodes in nodes(), key in any::<Vec<u8>>()) {
        let placement = Rendezvous::new(SEED, &nodes);
        let mut ranking = placement.ranking(&key);
        let owned: Vec<_> = std::iter::from_fn(|| ranking.next(&placement)).collect();
        prop_assert_eq!(owned, placement.rank(&key).collect::<Vec<_>>());
    }
}
