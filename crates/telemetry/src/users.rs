//! Different users over several nodes, counted without naming any.
//!
//! A user may be on two nodes, so that the numbers of the nodes must not be added up. Each node tells the others the
//! hashes of its users instead, but only the smallest ones: the k-th smallest of n evenly spread hashes lies at k / n of
//! their range, which tells n from it (Bar-Yossef et al., "Counting distinct elements in a data stream", 2002; the union
//! of such sets as in Dasgupta et al., "A framework for estimating stream expression cardinalities", 2016).
//!
//! Up to [`KEPT_MAX`] users of each node the count is exact. With more it is an estimate, whose standard error is
//! 1 / √(KEPT_MAX − 2): 4.4 %.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Hashes that are kept. They take 4 KB on their way, which each node reads of every other with each heartbeat.
pub const KEPT_MAX: usize = 512;

/// Bytes of a hash. Of a million users, two share one of 48 bits with a probability of one in 560.
const HASH_BYTES: usize = 6;

/// The number of hashes there are.
const RANGE: u64 = 1 << (8 * HASH_BYTES);

/// A set of users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// The smallest hashes.
    hashes: BTreeSet<u64>,
    /// Whether there are larger ones as well.
    has_more: bool,
}

impl Users {
    /// Adds the user with this hash. All nodes must hash alike, and evenly.
    pub fn add(&mut self, hash: u64) {
        self.hashes.insert(hash % RANGE);
        self.cut();
    }

    /// Adds the users of another set.
    pub fn merge(&mut self, other: &Self) {
        // Above the largest hash that a set keeps, nothing is known of it.
        let known_to = [&*self, other].into_iter().filter_map(Self::known_to).min();
        self.hashes.extend(&other.hashes);
        if let Some(known_to) = known_to {
            self.hashes.retain(|hash| *hash <= known_to);
            self.has_more = true;
        }
        self.cut();
    }

    /// How many users there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self.known_to() {
            None => self.hashes.len() as u64,
            Some(largest) => {
                let below = self.hashes.len().saturating_sub(1) as f64;
                // A float turns into the nearest number that there is.
                (below * RANGE as f64 / largest.max(1) as f64).round() as u64
            }
        }
    }

    /// The largest hash up to which the set knows every user. `None` if it knows all.
    fn known_to(&self) -> Option<u64> {
        self.hashes.last().copied().filter(|_| self.has_more)
    }

    fn cut(&mut self) {
        while self.hashes.len() > KEPT_MAX {
            self.hashes.pop_last();
            self.has_more = true;
        }
    }
}

/// The set as others read it.
#[derive(Serialize, Deserialize)]
struct Written {
    hashes: String,
    #[serde(default)]
    more: bool,
}

impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> =
            self.hashes.iter().flat_map(|hash| hash.to_be_bytes().into_iter().skip(8 - HASH_BYTES)).collect();
        Written { hashes: STANDARD_NO_PAD.encode(bytes), more: self.has_more }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { hashes, more } = Written::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(hashes).map_err(serde::de::Error::custom)?;
        let hash_of = |bytes: &[u8]| bytes.iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        let mut users = Self { hashes: bytes.chunks_exact(HASH_BYTES).map(hash_of).collect(), has_more: more };
        users.cut();
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users by number, with hashes that are spread evenly: the finalizer of SplitMix64.
    fn users(numbers: std::ops::Range<u64>) -> Users {
        let mut users = Users::default();
        for number in numbers {
            let mut hash = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            users.add(hash ^ hash >> 31);
        }
        users
    }

    fn union(of: &[Users]) -> Users {
        let mut union = Users::default();
        for users in of {
            union.merge(users);
        }
        union
    }

    #[track_caller]
    fn check_about(users: &Users, expected: u64) {
        let error = users.count().abs_diff(expected) as f64 / expected as f64;
        // Three standard errors.
        assert!(error < 0.135, "{} instead of {expected}", users.count());
        assert!(users.hashes.len() <= KEPT_MAX);
    }

    #[test]
    fn a_user_on_two_nodes_counts_once() {
        assert_eq!(union(&[users(0..10), users(5..20)]).count(), 20);
        assert_eq!(union(&[users(0..10), users(0..10)]).count(), 10);
        assert_eq!(union(&[]).count(), 0);
    }

    #[test]
    fn the_count_is_exact_up_to_what_is_kept_and_close_above() {
        let kept = KEPT_MAX as u64;
        assert_eq!(users(0..kept).count(), kept);
        check_about(&users(0..kept + 1), kept + 1);
        check_about(&users(0..100_000), 100_000);
    }

    #[test]
    fn sets_of_many_and_of_few_users_have_a_union() {
        check_about(&union(&[users(0..20_000), users(10_000..30_000), users(0..3)]), 30_000);
        check_about(&union(&[users(0..400), users(400..800), users(800..1_200)]), 1_200);
        check_about(&union(&[users(0..100), users(0..5_000)]), 5_000);
    }

    #[test]
    fn a_set_that_keeps_fewer_limits_what_is_known_of_the_union() {
        let of_another_version =
            Users { hashes: users(0..10_000).hashes.into_iter().take(100).collect(), has_more: true };
        let count = union(&[of_another_version, users(0..300)]).count();
        assert!((7_000..13_000).contains(&count), "{count}");
    }

    #[test]
    fn a_set_is_read_as_it_was_written() {
        for users in [users(0..0), users(0..3), users(0..10_000)] {
            let json = serde_json::to_string(&users).unwrap();
            assert!(json.len() < 4_200, "{} bytes", json.len());
            assert_eq!(serde_json::from_str::<Users>(&json).unwrap(), users);
        }
        assert!(serde_json::from_str::<Users>(r#"{"hashes":"not base64"}"#).is_err());
    }
}
