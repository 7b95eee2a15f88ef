//! Which version a client is served, by which rule, and why not by the others.

use conflux_common::{
    error::ApiError,
    labels::Labels,
    release::{self, Reason},
};
use conflux_proto::{store, v1};

use super::rules_of;

/// Every rule of the config in the order in which they are tried. The answer of a fetch with these labels is its `version`.
pub fn explain(config: &store::Config, labels: &Labels) -> Result<v1::ResolveResponse, ApiError> {
    let rules = rules_of(&config.rules)?;
    let verdicts = release::explain(config.id, &rules, labels);
    let serving = verdicts.iter().find(|v| v.reason == Reason::Serves).map(|v| rules[v.rule].version);
    let shown = |v: release::Verdict| v1::RuleVerdict {
        rule: Some(config.rules[v.rule].clone()),
        serves: v.reason == Reason::Serves,
        why: v.reason.to_string(),
    };
    Ok(v1::ResolveResponse { version: serving.unwrap_or(0), rules: verdicts.into_iter().map(shown).collect() })
}
