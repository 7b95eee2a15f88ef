//! Which version a client is served: a pure function of the rules and its labels (DESIGN section 6).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{error::ApiError, labels::Labels};

/// At most so many rules on a config.
pub const MAX_RULES: usize = 100;
/// A whole, in the unit of [`Percentage::basis_points`].
pub const WHOLE: u32 = 10_000;

/// A client that carries all `labels` is served `version`; the highest priority wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRule {
    /// All must be carried. Empty: the default rule.
    #[serde(default)]
    pub labels: Labels,
    /// The version to serve.
    #[serde(alias = "version_id")]
    pub version: u64,
    /// Higher wins.
    #[serde(default)]
    pub priority: i32,
    /// Only this share of those clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percentage>,
}

/// A sticky share: the same label value is always in or always out, and raising the share moves nobody out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Percentage {
    /// Hundredths of a percent, 0 to 10000.
    pub basis_points: u32,
    /// The label whose value is hashed; a client without it is out.
    pub sticky_label: String,
}

impl Percentage {
    /// The bucket hashes the config and the label's value, so that two configs draw different canaries.
    fn admits(&self, config: u64, labels: &Labels) -> bool {
        let Some(value) = labels.get(&self.sticky_label) else { return false };
        let digest = Sha256::new().chain_update(config.to_be_bytes()).chain_update(value.as_bytes()).finalize();
        let bucket = u64::from_be_bytes([
            digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
        ]);
        // Scaled rather than taken modulo, so that every bucket is equally likely.
        let place = ((u128::from(bucket) * u128::from(WHOLE)) >> 64) as u32;
        place < self.basis_points
    }
}

/// The version that a client with these labels is served, or none where no rule admits it.
///
/// Equal priorities are refused by [`validate`] where both could match; should both stand, more labels win, then the
/// earlier rule.
pub fn evaluate(config: u64, rules: &[ReleaseRule], labels: &Labels) -> Option<u64> {
    let mut best: Option<&ReleaseRule> = None;
    for rule in rules {
        let admits =
            labels.contains_all(&rule.labels) && rule.percentage.as_ref().is_none_or(|p| p.admits(config, labels));
        let rank = |r: &ReleaseRule| (r.priority, r.labels.iter().count());
        if admits && best.is_none_or(|b| rank(rule) > rank(b)) {
            best = Some(rule);
        }
    }
    best.map(|r| r.version)
}

/// Refuses what cannot mean anything: too many rules, a share above the whole, the same rule twice.
pub fn validate(rules: &[ReleaseRule]) -> Result<(), ApiError> {
    if rules.len() > MAX_RULES {
        return Err(ApiError::invalid("rules", format!("at most {MAX_RULES} rules on a config")));
    }
    for (i, rule) in rules.iter().enumerate() {
        if let Some(p) = &rule.percentage {
            if p.basis_points > WHOLE {
                return Err(ApiError::invalid(format!("rules[{i}].percentage.basis_points"), "0 to 10000"));
            }
            if p.sticky_label.is_empty() || p.sticky_label.bytes().any(|b| b.is_ascii_uppercase()) {
                return Err(ApiError::invalid(
                    format!("rules[{i}].percentage.sticky_label"),
                    "names a label in lower case",
                ));
            }
        }
        let twin = rules[..i]
            .iter()
            .position(|r| r.priority == rule.priority && r.labels == rule.labels && r.percentage == rule.percentage);
        if let Some(j) = twin {
            let why = format!("rules[{j}] has the same labels and priority: which one wins would be a guess");
            return Err(ApiError::invalid(format!("rules[{i}]"), why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().map(|(n, v)| (n.to_string(), v.to_string()))).unwrap()
    }

    fn rule(pairs: &[(&str, &str)], version: u64, priority: i32) -> ReleaseRule {
        ReleaseRule { labels: labels(pairs), version, priority, percentage: None }
    }

    #[test]
    fn the_highest_priority_that_matches_wins() {
        let rules = [rule(&[], 1, 0), rule(&[("region", "eu")], 2, 10), rule(&[("region", "eu"), ("ip", "1")], 3, 20)];
        assert_eq!(evaluate(1, &rules, &labels(&[])), Some(1));
        assert_eq!(evaluate(1, &rules, &labels(&[("region", "eu")])), Some(2));
        assert_eq!(evaluate(1, &rules, &labels(&[("region", "eu"), ("ip", "1")])), Some(3));
        assert_eq!(evaluate(1, &rules[1..], &labels(&[])), None);
    }

    #[test]
    fn a_share_is_sticky_and_grows_without_moving_anyone_out() {
        let with = |basis_points| {
            [ReleaseRule {
                percentage: Some(Percentage { basis_points, sticky_label: "client".into() }),
                ..rule(&[], 2, 1)
            }]
        };
        let mut inside = 0;
        for i in 0..10_000 {
            let client = labels(&[("client", &format!("c{i}"))]);
            let at_ten = evaluate(7, &with(1_000), &client).is_some();
            let at_twenty = evaluate(7, &with(2_000), &client).is_some();
            assert!(!at_ten || at_twenty);
            inside += u32::from(at_ten);
        }
        assert!((900..=1100).contains(&inside), "{inside} of 10000 at 10 %");
        assert_eq!(evaluate(7, &with(WHOLE), &labels(&[])), None, "a client without the label is out");
    }

    #[test]
    fn twins_are_refused() {
        assert!(validate(&[rule(&[], 1, 0), rule(&[], 2, 0)]).is_err());
        assert!(validate(&[rule(&[], 1, 0), rule(&[], 2, 1)]).is_ok());
    }
}
