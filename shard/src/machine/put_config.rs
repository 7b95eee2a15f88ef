//! PutConfig: one step from a file to what clients are served.

use conflux_common::release;
use conflux_proto::{log, store, v1};

use super::{
    change::{Change, Kind},
    input::{self, NewVersion},
    precondition, rules,
    stop::Stop,
};
use crate::{query, store::config};

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
        schema: "",
        media_type: &op.media_type,
    };
    new.check()?;
    let found = config::by_name(&*change.tx, change.tenant.id, &op.app, &op.env, &op.name)?;
    change.demand(found.as_ref())?;
    precondition::check_schema(op.checked.as_ref(), "", found.as_ref())?;
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
    let version = config.latest_version;
    let mut after = query::rules_of(&rules_before)?;
    release::serve_by_default(&mut after, version)?;
    let after = rules::stored(&after)?;
    rules::set(change.tx, change.tenant.id, &mut config, after);
    Ok(change.commit(kind, config, rules_before, version, &op.sha256)?)
}

fn is_released(change: &Change<'_, '_>, config: &store::Config, new: &NewVersion<'_>) -> Result<bool, Stop> {
    let released = rules::default_version(&config.rules) == Some(config.latest_version);
    Ok(released && change.is_latest(config, new)?)
}
