//! CreateVersion: one version more; nothing is released by it.

use conflux_proto::{log, v1};

use super::{
    change::{Change, Kind},
    input::NewVersion,
    precondition,
    stop::Stop,
};

/// Adds a version, even one with the content of an earlier one. Without a format it has the config's.
pub(super) fn create_version(change: &mut Change<'_, '_>, op: &log::CreateVersion) -> Result<v1::WriteResponse, Stop> {
    let mut config = change.config(op.config_id)?;
    let format = if op.format.is_empty() { config.format.clone() } else { op.format.clone() };
    let new = NewVersion {
        content: &op.content,
        sha256: &op.sha256,
        format: &format,
        description: &op.description,
        schema: &op.schema,
        media_type: "",
    };
    new.check()?;
    change.demand(Some(&config))?;
    precondition::check_schema(op.checked.as_ref(), &op.schema, Some(&config))?;
    change.add_version(&mut config, &new)?;
    let (rules, version) = (config.rules.clone(), config.latest_version);
    Ok(change.commit(Kind::Versioned, config, rules, version, &op.sha256)?)
}
