//! Which versions a config's retention gives up. Pure: the config's row, its versions and group time decide. `pruning` is what the leader
//! does about it, [`archive`] where they go.

pub mod archive;
pub(crate) mod pruning;

use std::collections::BTreeSet;

use conflux_proto::store;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Whether this version stays whatever its age: a rule points at it, it is promoted later, it is the latest, or the one that a
/// rollback without a number goes back to.
pub fn is_held(config: &store::Config, version: u64) -> bool {
    config.latest_version == version
        || config.previous_default == version
        || config.promotion.as_ref().is_some_and(|p| p.version == version)
        || config.rules.iter().any(|r| r.version == version)
}

/// What is due now, and when something will be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Numbers that go, oldest first.
    pub due: Vec<u64>,
    /// When the next one is too old; none: not by time alone.
    pub next_ms: Option<u64>,
}

/// Looks at the oldest versions of a config (number and time of creation, oldest first; not all need be there). By count the oldest go
/// until no more than the bound are left; by age those that are too old; never one that [`is_held`].
pub fn judge(config: &store::Config, versions: &[(u64, u64)], now_ms: u64) -> Verdict {
    let Some(retention) = &config.retention else { return Verdict::default() };
    let held: BTreeSet<u64> = versions.iter().map(|(n, _)| *n).filter(|n| is_held(config, *n)).collect();
    let max = u64::from(retention.max_versions);
    let mut beyond = if max == 0 { 0 } else { config.versions.saturating_sub(max) };
    let mut verdict = Verdict::default();
    for (number, created_ms) in versions {
        if held.contains(number) {
            continue;
        }
        let too_old_ms = created_ms.saturating_add(u64::from(retention.max_age_days) * DAY_MS);
        let old = retention.max_age_days > 0 && too_old_ms <= now_ms;
        if beyond > 0 || old {
            beyond = beyond.saturating_sub(1);
            verdict.due.push(*number);
        } else if retention.max_age_days > 0 {
            verdict.next_ms = Some(verdict.next_ms.map_or(too_old_ms, |next| next.min(too_old_ms)));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use conflux_proto::v1::{ReleaseRule, Retention};
    use proptest::prelude::*;

    use super::*;

    fn config(max_versions: u32, max_age_days: u32, latest: u64) -> store::Config {
        let retention = Some(Retention { max_versions, max_age_days });
        store::Config { retention, latest_version: latest, versions: latest, ..Default::default() }
    }

    fn daily(n: u64) -> Vec<(u64, u64)> {
        (1..=n).map(|v| (v, v * DAY_MS)).collect()
    }

    /// By count, by age, and never what is in use.
    #[test]
    fn the_oldest_go_but_what_is_in_use_stays() {
        let now = 10 * DAY_MS;
        assert_eq!(judge(&config(3, 0, 10), &daily(10), now).due, [1, 2, 3, 4, 5, 6, 7]);
        let by_age = judge(&config(0, 4, 10), &daily(10), now);
        assert_eq!((by_age.due, by_age.next_ms), (vec![1, 2, 3, 4, 5, 6], Some(11 * DAY_MS)));
        let mut used = config(3, 0, 10);
        used.rules = vec![ReleaseRule { version: 2, ..Default::default() }];
        used.previous_default = 4;
        used.promotion = Some(store::Promotion { version: 6, ..Default::default() });
        assert_eq!(judge(&used, &daily(10), now).due, [1, 3, 5, 7, 8, 9], "six besides the four in use");
        assert_eq!(judge(&config(1, 1, 1), &daily(1), u64::MAX).due, Vec::<u64>::new(), "the latest stays");
        assert_eq!(judge(&store::Config::default(), &daily(5), u64::MAX), Verdict::default(), "nothing was asked for");
    }

    proptest! {
        // Whatever is asked for: nothing in use goes, and after the pruning nothing more is due.
        #[test]
        fn pruning_ends(max in 0u32..8, days in 0u32..8, n in 1u64..20, used in proptest::collection::vec(1u64..20, 0..5), day in 0u64..30) {
            let mut config = config(max, days, n);
            config.rules = used.iter().map(|v| ReleaseRule { version: *v, ..Default::default() }).collect();
            let now = day * DAY_MS;
            let due = judge(&config, &daily(n), now).due;
            prop_assert!(due.iter().all(|v| !used.contains(v) && *v != n));
            config.versions -= due.len() as u64;
            let left: Vec<(u64, u64)> = daily(n).into_iter().filter(|(v, _)| !due.contains(v)).collect();
            prop_assert_eq!(judge(&config, &left, now).due, Vec::<u64>::new());
        }
    }
}
