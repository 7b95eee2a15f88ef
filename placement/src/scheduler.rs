//! On which shard a new tenant is put: weighted rendezvous hashing, a form of consistent hashing. Pure.
//!
//! Each shard gets a score from SHA-256 of its name and the tenant's; the highest score wins. Adding a shard moves names
//! only to it, removing one moves only its own, and a shard gets its share by weight. It runs inside `apply` on every
//! replica: SHA-256 and whole numbers, so that all machines and all releases agree. (The crate `consistent_hash`
//! hashes with the standard library's unspecified hasher by default, and weights there are counts of points on a ring.)

use sha2::{Digest, Sha256};

/// A shard that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The group's name.
    pub shard: &'a str,
    /// Its share relative to the others'; 0: gets nothing new.
    pub weight: u32,
}

/// The shard for this tenant; `None` when no candidate has weight. The order of candidates does not matter.
pub fn choose<'a>(tenant: &str, candidates: impl IntoIterator<Item = Candidate<'a>>) -> Option<&'a str> {
    let mut best: Option<(Candidate<'a>, u64)> = None;
    for candidate in candidates.into_iter().filter(|c| c.weight > 0) {
        let distance = distance(tenant, candidate.shard);
        let wins = match best {
            None => true,
            Some((other, others)) => {
                // weight/distance compared without division; equal scores go to the lower name.
                let own = u128::from(candidate.weight) * u128::from(others);
                let theirs = u128::from(other.weight) * u128::from(distance);
                own > theirs || (own == theirs && candidate.shard < other.shard)
            }
        };
        if wins {
            best = Some((candidate, distance));
        }
    }
    best.map(|(candidate, _)| candidate.shard)
}

/// An exponentially distributed number of the pair: -log2 of a uniform hash, with 32 binary places. Never 0.
/// The least of distance/weight then falls on each shard with the probability of its weight.
fn distance(tenant: &str, shard: &str) -> u64 {
    let digest = Sha256::new().chain_update(shard).chain_update([0]).chain_update(tenant).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (64 << 32) - log2(u64::from_be_bytes(first).max(1))
}

/// The logarithm to base 2 of `n` > 0 with 32 binary places, rounded down: repeated squaring of the mantissa.
fn log2(n: u64) -> u64 {
    let whole = 63 - u64::from(n.leading_zeros());
    // n / 2^whole in 1..2, with 63 binary places
    let mut mantissa = u128::from(n << n.leading_zeros());
    let mut result = whole;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        let bit = mantissa >> 64;
        result = result << 1 | bit as u64;
        mantissa >>= bit;
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn with(shards: &[(&'static str, u32)]) -> Vec<Candidate<'static>> {
        shards.iter().map(|(shard, weight)| Candidate { shard, weight: *weight }).collect()
    }

    /// The answer is computed anew by every replica on every replay of the log: these values may never change.
    #[test]
    fn the_choice_is_pinned_for_ever() {
        let shards = with(&[("shard-a", 100), ("shard-b", 100), ("shard-c", 300)]);
        let chosen: String =
            ["acme", "demo", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "t1", "t2", "t3", "t4"]
                .iter()
                .map(|t| choose(t, shards.clone()).unwrap().chars().last().unwrap())
                .collect();
        assert_eq!(chosen, "cccacccccbcc");
        assert_eq!(distance("acme", "shard-a"), 2564367383);
    }

    /// The integer logarithm is the real one to 32 binary places.
    #[test]
    fn the_logarithm_is_right() {
        assert_eq!(log2(1), 0);
        assert_eq!(log2(1 << 40), 40 << 32);
        for n in [3_u64, 1000, 123_456_789_012, u64::MAX / 3, u64::MAX] {
            let real = (n as f64).log2() * (1_u64 << 32) as f64;
            assert!((log2(n) as f64 - real).abs() < 4.0, "{n}");
        }
        assert!(log2(u64::MAX) < 64 << 32);
    }

    /// A shard with thrice the weight takes thrice the tenants; one without weight takes none.
    #[test]
    fn weights_are_respected() {
        let shards = with(&[("a", 100), ("b", 100), ("c", 300), ("drained", 0)]);
        let mut count = BTreeMap::<&str, u32>::new();
        for i in 0..10_000 {
            *count.entry(choose(&format!("tenant-{i}"), shards.clone()).unwrap()).or_default() += 1;
        }
        for (shard, expected) in [("a", 2000), ("b", 2000), ("c", 6000)] {
            let got = count[shard];
            assert!(got.abs_diff(expected) < 200, "{shard}: {got}, expected about {expected}");
        }
        assert!(!count.contains_key("drained"));
        assert_eq!(choose("x", with(&[("drained", 0)])), None);
    }

    proptest! {
        /// Adding a shard, or raising a weight, moves names only to that shard.
        #[test]
        fn growth_only_moves_to_the_grown(
            names in prop::collection::vec("[a-z]{1,12}", 50),
            weights in prop::collection::vec(0_u32..500, 1..6),
            grown in 0_usize..6,
            by in 1_u32..500,
        ) {
            let labels = ["s0", "s1", "s2", "s3", "s4", "s5"];
            let before: Vec<_> =
                weights.iter().zip(labels).map(|(weight, shard)| Candidate { shard, weight: *weight }).collect();
            let mut after = before.clone();
            let at = grown.min(before.len());
            match after.get_mut(at) {
                Some(c) => c.weight += by,
                None => after.push(Candidate { shard: labels[at], weight: by }),
            }
            for name in names {
                let (old, new) = (choose(&name, before.clone()), choose(&name, after.clone()));
                prop_assert!(old == new || new == Some(labels[at]));
            }
        }

        /// Replicas may list shards in any order.
        #[test]
        fn order_does_not_matter(name in "[a-z]{1,12}", seed in 0_usize..6) {
            let mut shards = with(&[("a", 1), ("b", 7), ("c", 100), ("d", 100), ("e", 3), ("f", 0)]);
            let first = choose(&name, shards.clone());
            shards.rotate_left(seed);
            prop_assert_eq!(first, choose(&name, shards.clone()));
            shards.reverse();
            prop_assert_eq!(first, choose(&name, shards));
        }
    }
}
