//! Replicas that have applied the same index have the same rows, at every moment; in the end all have applied the same index.

use std::collections::BTreeMap;

use super::Evidence;
use crate::world::hosts;

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    let mut known: BTreeMap<(&str, u64), (u64, &str)> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for observed in evidence.observed {
        let group = hosts::group_of(&observed.member);
        let (hash, first) = *known.entry((group, observed.index)).or_insert((observed.hash, &observed.member));
        if hash != observed.hash {
            return Err(format!(
                "{} and {first} of {group} differ at index {} ({} ms)",
                observed.member, observed.index, observed.at_ms
            ));
        }
        last.insert(&observed.member, observed.index);
    }
    for group in hosts::GROUPS.into_iter().filter(|_| evidence.complete) {
        let ends: Vec<_> = last.iter().filter(|(member, _)| hosts::group_of(member) == group).collect();
        if ends.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            return Err(format!("in the end the members of {group} stand at {ends:?}"));
        }
    }
    Ok(())
}
