//! PutConfig: one step from a file to what clients are served.

use conflux_proto::{log, store, v1};

use super::{
    change::{Change, Kind, default_rule},
    input::{self, NewVersion},
    stop::Stop,
};
use crate::store::{config, version};

/// Creates the config with version 1, or adds a version; and points the default rule at it. Rules with labels or a share stay.
///
/// A put of what is the latest version and released as default already (same bytes, format, media type; description the
/// same or not given) changes nothing: no version, no revision, no event.
pub(super) fn put_config(change: &mut Change<'_, '_>, op: &log::PutConfig) -> Result<v1::WriteResponse, Stop> {
    input::names(&op.app, &op.env, &op.name)?;
    let new = NewVersion {
        content: &op.content,
        sha256: &op.sha256,
        format: &op.format,
        description: &op.description,
        media_type: &op.media_type,
    };
    new.check()?;
    let found = config::by_name(&*change.tx, change.tenant.id, &op.app, &op.env, &op.name)?;
    change.demand(found.as_ref())?;
    let (kind, mut config) = match found {
        Some(config) if is_released(change, &config, &new)? => {
            return Ok(change.unchanged(&config, config.latest_version, &op.sha256));
        }
        Some(config) => (Kind::Released, config),
        None => (Kind::Created, change.new_config(&op.app, &op.env, &op.name, &op.format)?),
    };
    let rules_before = config.rules.clone();
    change.add_version(&mut config, &new)?;
    config.format = op.format.clone();
    release_as_default(&mut config);
    let version = config.latest_version;
    Ok(change.commit(kind, config, rules_before, version, &op.sha256)?)
}

fn is_released(change: &Change<'_, '_>, config: &store::Config, new: &NewVersion<'_>) -> Result<bool, Stop> {
    let default = default_rule(&config.rules).map(|i| config.rules[i].version);
    if default != Some(config.latest_version) {
        return Ok(false);
    }
    let latest = version::get(&*change.tx, change.tenant.id, config.id, config.latest_version)?;
    Ok(latest.is_some_and(|v| {
        v.sha256 == *new.sha256
            && v.format == new.format
            && v.media_type == new.media_type
            && (new.description.is_empty() || v.description == new.description)
    }))
}

/// Points the default rule at the latest version. A new one gets a priority that no other rule is below: 0, or the lowest.
fn release_as_default(config: &mut store::Config) {
    let version = config.latest_version;
    match default_rule(&config.rules) {
        Some(i) => config.rules[i].version = version,
        None => {
            let lowest = config.rules.iter().map(|r| r.priority).min().unwrap_or(0);
            config.rules.push(v1::ReleaseRule { version, priority: lowest.min(0), ..Default::default() });
        }
    }
}
