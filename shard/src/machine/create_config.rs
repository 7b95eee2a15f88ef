//! CreateConfig: a config with or without its first version; nothing is released by it.

use conflux_common::error::{ApiError, Code};
use conflux_proto::{log, v1};

use super::{
    change::{Change, Kind},
    input::{self, NewVersion},
    stop::Stop,
};
use crate::store::config;

/// Creates the config; with content (a SHA-256 is given) also version 1. No release rule is made: what clients are served is
/// decided by SetReleases, or by the next PutConfig.
pub(super) fn create_config(change: &mut Change<'_, '_>, op: &log::CreateConfig) -> Result<v1::WriteResponse, Stop> {
    input::names(&op.app, &op.env, &op.name)?;
    input::format(&op.format)?;
    input::description(&op.description)?;
    let tags = input::tags(&op.tags)?;
    let retention = input::retention(op.retention)?;
    input::schema(&op.schema)?;
    let first = (!op.sha256.is_empty()).then_some(NewVersion {
        content: &op.content,
        sha256: &op.sha256,
        format: &op.format,
        description: "",
        schema: "",
        media_type: "",
    });
    if let Some(first) = &first {
        first.check()?;
    } else if !op.content.is_empty() {
        return Err(ApiError::invalid("sha256", "missing").into());
    }
    let found = config::by_name(&*change.tx, change.tenant.id, &op.app, &op.env, &op.name)?;
    change.demand(found.as_ref())?;
    if found.is_some() {
        let text = format!("config {}/{}/{} exists already", op.app, op.env, op.name);
        return Err(ApiError::new(Code::AlreadyExists, text).into());
    }
    let mut config = change.new_config(&op.app, &op.env, &op.name, &op.format)?;
    config.description = op.description.clone();
    config.tags = tags;
    config.retention = retention;
    config.schema = op.schema.clone();
    if let Some(first) = &first {
        change.add_version(&mut config, first)?;
    }
    let version = config.latest_version;
    Ok(change.commit(Kind::Created, config, Vec::new(), version, &op.sha256)?)
}
