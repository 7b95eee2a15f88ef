//! SetReleases: which version which clients are served.

use bytes::Bytes;
use conflux_common::{error::ApiError, release};
use conflux_proto::{log, store, v1};

use super::{
    change::{Change, Kind},
    rules,
    stop::Stop,
};
use crate::{query, store::version};

/// Replaces the whole list of rules; an empty one releases nothing. The list that stands already changes nothing: no revision,
/// no event. The answer and the event name the version of the default rule (0: none).
pub(super) fn set_releases(change: &mut Change<'_, '_>, op: &log::SetReleases) -> Result<v1::WriteResponse, Stop> {
    let mut config = change.config(op.config_id)?;
    let rules = query::rules_of(&op.rules)?;
    release::validate(&rules)?;
    // As they come back out of the domain: label names folded, so that equal lists are equal.
    let rules = rules::stored(&rules)?;
    let shown = versions(change, &config, &rules)?;
    change.demand(Some(&config))?;
    let (number, sha256) = shown.map_or((0, Bytes::new()), |v| (v.number, v.sha256));
    if rules == config.rules {
        return Ok(change.unchanged(&config, number, &sha256));
    }
    let rules_before = config.rules.clone();
    rules::set(change.tx, change.tenant.id, &mut config, rules);
    Ok(change.commit(Kind::Released, config, rules_before, number, &sha256)?)
}

/// Refuses rules that point at versions that do not exist; answers the version of the default rule.
fn versions(
    change: &Change<'_, '_>,
    config: &store::Config,
    rules: &[v1::ReleaseRule],
) -> Result<Option<store::Version>, Stop> {
    let default = rules::default_rule(rules);
    let mut shown = None;
    for (i, rule) in rules.iter().enumerate() {
        let row = version::get(&*change.tx, change.tenant.id, config.id, rule.version)?;
        let Some(row) = row else {
            let why = format!("version {} does not exist", rule.version);
            return Err(ApiError::invalid(format!("rules[{i}].version"), why).into());
        };
        if default == Some(i) {
            shown = Some(row);
        }
    }
    Ok(shown)
}
