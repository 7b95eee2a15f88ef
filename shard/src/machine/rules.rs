//! What changes with the release rules of a config: publish, rollback, put, releases and promotion all pass here.

use conflux_common::{error::ApiError, release::ReleaseRule};
use conflux_proto::{store, v1};
use conflux_raft::Tx;
use prost::Message;

use super::{limits, stop::Stop};
use crate::store::promotion;

/// The rules as they are stored; refused where they are too large to travel in each event.
pub(super) fn stored(rules: &[ReleaseRule]) -> Result<Vec<v1::ReleaseRule>, Stop> {
    let rules: Vec<v1::ReleaseRule> = rules.iter().map(conflux_proto::release::to_wire).collect();
    let bytes: usize = rules.iter().map(Message::encoded_len).sum();
    if bytes > limits::MAX_RULES_BYTES {
        let max = limits::MAX_RULES_BYTES;
        return Err(ApiError::invalid("rules", format!("{bytes} bytes in all, more than {max}")).into());
    }
    Ok(rules)
}

/// Sets the rules. The promotion that came with the former ones ends; what the default pointed at before is kept for a
/// rollback.
pub(super) fn set(tx: &mut Tx<'_>, tenant: u64, config: &mut store::Config, rules: Vec<v1::ReleaseRule>) {
    end_promotion(tx, tenant, config);
    let (was, is) = (default_version(&config.rules), default_version(&rules));
    if let Some(was) = was.filter(|was| is != Some(*was)) {
        config.previous_default = was;
    }
    config.rules = rules;
}

/// The version becomes the default at that group time, unless the rules change before.
pub(super) fn promise(tx: &mut Tx<'_>, tenant: u64, config: &mut store::Config, promise: store::Promotion) {
    end_promotion(tx, tenant, config);
    promotion::put(tx, tenant, promise.due_ms, config.id);
    config.promotion = Some(promise);
}

/// The config's promotion, if there is one, happens no more.
pub(super) fn end_promotion(tx: &mut Tx<'_>, tenant: u64, config: &mut store::Config) {
    if let Some(ended) = config.promotion.take() {
        promotion::delete(tx, tenant, ended.due_ms, config.id);
    }
}

/// The version of the default rule.
pub(super) fn default_version(rules: &[v1::ReleaseRule]) -> Option<u64> {
    default_rule(rules).map(|i| rules[i].version)
}

/// The rule that serves clients without labels. There is at most one: `release::validate` refuses a second.
pub(super) fn default_rule(rules: &[v1::ReleaseRule]) -> Option<usize> {
    rules.iter().position(|r| r.labels.is_empty() && r.percentage.is_none())
}
