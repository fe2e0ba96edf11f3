//! The load bound: consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016).
//!
//! It is applied when a session is created and never later: a session that exists stays where it is.

/// Up to this many sessions a node takes whatever its fair share is. With a handful of sessions the shares mean
/// nothing, and each key that is not on its first rank costs other balancers a redirect.
pub const LOAD_ALWAYS_ADMITTED: u64 = 8;

/// Which load a node may have, relative to its fair share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadBound {
    epsilon: f64,
}

impl LoadBound {
    /// A bound of (1 + ε) × the fair share. An `epsilon` that is not above 0 is taken as 0, the tightest bound that
    /// still finds a node for every session.
    #[must_use]
    pub fn new(epsilon: f64) -> Self {
        Self { epsilon: if epsilon > 0.0 { epsilon } else { 0.0 } }
    }

    /// Whether a node with `load` sessions may take one more, when all eligible nodes together have `total_load`
    /// sessions and `total_weight`, and the node's own share is `weight`.
    ///
    /// Among the nodes that are summed up in the totals there is always one that is admitted.
    #[must_use]
    pub fn admits(&self, load: u64, total_load: u64, weight: u16, total_weight: u64) -> bool {
        load < LOAD_ALWAYS_ADMITTED || load < self.capacity(total_load, weight, total_weight)
    }

    /// The load up to which [`Self::admits`] says yes for reasons of share: (1 + ε) × the fair share of all sessions,
    /// the one to come included, rounded up.
    #[must_use]
    pub fn capacity(&self, total_load: u64, weight: u16, total_weight: u64) -> u64 {
        if total_weight == 0 {
            return 0;
        }
        let share = f64::from(weight) / total_weight as f64;
        // The cast saturates, which is the right answer for an infinite ε.
        ((1.0 + self.epsilon) * (total_load as f64 + 1.0) * share).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_above_its_bound_is_not_admitted() {
        let bound = LoadBound::new(0.25);
        // Three equal nodes, 119 sessions and the one to come: a fair share of 40, a bound of 50.
        assert_eq!(bound.capacity(119, 1, 3), 50);
        assert!(bound.admits(49, 119, 1, 3));
        assert!(!bound.admits(50, 119, 1, 3));
    }

    #[test]
    fn a_heavier_node_may_have_more() {
        let bound = LoadBound::new(0.25);
        assert!(bound.admits(99, 119, 2, 3));
        assert!(!bound.admits(100, 119, 2, 3));
    }

    #[test]
    fn a_handful_of_sessions_is_always_admitted() {
        let bound = LoadBound::new(0.25);
        assert!(bound.admits(7, 7, 1, 50));
        assert!(!bound.admits(8, 8, 1, 50));
    }

    #[test]
    fn some_node_is_always_admitted_even_at_the_tightest_bound() {
        for epsilon in [0.0, -1.0, f64::NAN] {
            let bound = LoadBound::new(epsilon);
            let (weights, mut loads) = ([1_u16, 5, 3, 1], [0_u64; 4]);
            for total in 0..1_000 {
                let fits = |node: &usize| bound.admits(loads[*node], total, weights[*node], 10);
                let node = (0..4).find(fits).expect("a node is admitted");
                loads[node] += 1;
            }
            assert_eq!(loads.iter().sum::<u64>(), 1_000);
        }
    }

    #[test]
    fn an_infinite_bound_admits_everything_and_no_weight_admits_only_a_handful() {
        assert!(LoadBound::new(f64::INFINITY).admits(u64::MAX - 1, u64::MAX, 1, 1_000));
        assert!(!LoadBound::new(0.25).admits(LOAD_ALWAYS_ADMITTED, 0, 0, 0));
    }
}
