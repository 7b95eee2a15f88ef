//! Which version a client is served: a pure function of the rules and its labels (DESIGN section 6, ADR 2).
//!
//! [`evaluate`] is what fetches and watches use, [`validate`] says which lists of rules mean something, [`plan`] makes rules
//! of a strategy, and [`explain`] says why.

mod explain;
mod plan;
#[cfg(test)]
mod tests;
mod validate;

use std::{cmp::Reverse, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::labels::Labels;

pub use explain::{Reason, Verdict, explain};
pub use plan::{DEFAULT_STICKY_LABEL, Kind, Strategy, default_rule, plan, promote, serve_by_default};
pub use validate::validate;

/// At most so many rules on a config.
pub const MAX_RULES: usize = 100;
/// A whole, in the unit of [`Percentage::basis_points`].
pub const WHOLE: u32 = 10_000;
/// Priorities are from its negative to this: there is always room above and below for rules that are made by strategies.
pub const MAX_PRIORITY: i32 = 1_000_000_000;

/// A client that carries all `labels` is served `version`; the highest rank wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRule {
    /// All must be carried. Empty: the default rule.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// The version to serve.
    #[serde(alias = "version_id")]
    #[schema(minimum = 1)]
    pub version: u64,
    /// Higher wins.
    #[serde(default)]
    pub priority: i32,
    /// Only this share of those clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percentage>,
}

/// A sticky share: the same label value is always in or always out, and raising the share moves nobody out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Percentage {
    /// Hundredths of a percent, 0 to 10000.
    #[schema(maximum = 10_000)]
    pub basis_points: u32,
    /// The label whose value is hashed; a client without it is out.
    pub sticky_label: String,
}

impl Percentage {
    /// Where the client stands, 0 to 9999: it is in while this is below the share. None: it does not carry the label.
    ///
    /// The place hashes the config and the label's value, so that two configs draw different canaries.
    fn place(&self, config: u64, labels: &Labels) -> Option<u32> {
        let value = labels.get(&self.sticky_label)?;
        let digest = Sha256::new().chain_update(config.to_be_bytes()).chain_update(value.as_bytes()).finalize();
        let bucket = u64::from_be_bytes([
            digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
        ]);
        // Scaled rather than taken modulo, so that every place is equally likely. The product is below WHOLE.
        Some(((u128::from(bucket) * u128::from(WHOLE)) >> 64) as u32)
    }

    fn admits(&self, config: u64, labels: &Labels) -> bool {
        self.place(config, labels).is_some_and(|place| place < self.basis_points)
    }
}

impl ReleaseRule {
    /// What decides between rules that admit the same client: priority, then the number of labels.
    pub fn rank(&self) -> (i32, usize) {
        (self.priority, self.labels.len())
    }

    /// Whether it serves this client, as long as no rule of a higher rank does.
    pub fn admits(&self, config: u64, labels: &Labels) -> bool {
        labels.contains_all(&self.labels) && self.percentage.as_ref().is_none_or(|p| p.admits(config, labels))
    }

    /// Whether it is for everybody.
    pub fn is_default(&self) -> bool {
        self.labels.is_empty() && self.percentage.is_none()
    }
}

/// For people: `{region=eu}, 10 % by client, priority 5`.
impl fmt::Display for ReleaseRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.labels.is_empty() {
            true if self.percentage.is_none() => f.write_str("default")?,
            true => f.write_str("all clients")?,
            false => {
                let pairs: Vec<String> = self.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
                write!(f, "{{{}}}", pairs.join(", "))?;
            }
        }
        if let Some(p) = &self.percentage {
            write!(f, ", {} by {}", Percent(p.basis_points), p.sticky_label)?;
        }
        write!(f, ", priority {}", self.priority)
    }
}

/// Basis points as people read them: `10 %`, `0.05 %`.
struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole} %"),
            (whole, rest) if rest % 10 == 0 => write!(f, "{whole}.{} %", rest / 10),
            (whole, rest) => write!(f, "{whole}.{rest:02} %"),
        }
    }
}

/// The version that a client with these labels is served, or none where no rule admits it.
///
/// Equal ranks are refused by [`validate`] where both could match; should both stand, the earlier rule wins.
pub fn evaluate(config: u64, rules: &[ReleaseRule], labels: &Labels) -> Option<u64> {
    let mut best: Option<&ReleaseRule> = None;
    for rule in rules {
        if best.is_none_or(|b| rule.rank() > b.rank()) && rule.admits(config, labels) {
            best = Some(rule);
        }
    }
    best.map(|r| r.version)
}

/// The places of the rules in the order in which they are tried.
fn order(rules: &[ReleaseRule]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    // Stable: of equal ranks the earlier one is tried first.
    order.sort_by_key(|i| Reverse(rules[*i].rank()));
    order
}
