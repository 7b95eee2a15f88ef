//! What a seed plans.

use std::collections::BTreeSet;

use super::*;

const EVERYTHING: Means = Means { processes: true, links: true, disks: true, clocks: true };
const ALL: Grounds = Grounds { groups: 3, gateways: 2, tenants: 2, moves: true, means: EVERYTHING };

fn kinds_of(planned: &[Planned]) -> BTreeSet<&'static str> {
    planned.iter().map(|p| p.fault.kind()).collect()
}

/// A seed found to break something must break it again.
#[test]
fn a_seed_gives_one_schedule() {
    assert_eq!(schedule(7, 600, ALL, &[], None), schedule(7, 600, ALL, &[], None));
    assert_ne!(schedule(7, 600, ALL, &[], None), schedule(8, 600, ALL, &[], None));
    let first: Vec<Planned> = schedule(7, 60, ALL, &[], None);
    assert!(first.windows(2).all(|w| w[0].at_ms <= w[1].at_ms));
}

/// Somebody else's federation is asked for what any operator may ask, and no process of it is touched.
#[test]
fn what_runs_already_is_not_killed() {
    let means = Means { processes: false, links: false, disks: false, clocks: false };
    let gentle = kinds_of(&schedule(7, 600, Grounds { means, ..ALL }, &[], None));
    assert_eq!(gentle, ["move a tenant", "slow readers", "transfer the leader"].into());
}

/// Less than eight minutes see every kind.
#[test]
fn a_run_sees_every_kind() {
    let kinds = kinds_of(&schedule(1, 450, ALL, &[], None));
    assert_eq!(kinds.len(), 39, "{kinds:?}");
}

/// Every subset of the links between three members comes, and no link of a member to itself.
#[test]
fn all_partial_partitions_come() {
    let only = ["cut links".to_owned()];
    let mut seen = BTreeSet::new();
    for planned in schedule(1, 20_000, ALL, &only, None) {
        if let Fault::CutLinks { links, .. } = planned.fault {
            assert_eq!(links & !LINKS, 0);
            seen.insert(links);
        }
    }
    assert_eq!(seen.len(), 63);
}
