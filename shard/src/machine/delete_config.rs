//! DeleteConfig: the config with all its versions.

use std::ops::ControlFlow;

use conflux_proto::{log, store, v1};
use conflux_raft::{FatalError, Tx};

use super::{
    change::{Change, Kind},
    drafts, limits, rules, scopes,
    stop::Stop,
};
use crate::store::{config, content, leftover, version};

/// Deletes the config: it and its name are gone at once, and the name may be used again, by a config with another id. Of very
/// many versions some are left for `Expire`; nobody can see them.
pub(super) fn delete_config(change: &mut Change<'_, '_>, op: &log::DeleteConfig) -> Result<v1::WriteResponse, Stop> {
    let mut row = change.config(op.config_id)?;
    change.demand(Some(&row))?;
    config::delete(change.tx, change.tenant.id, &row);
    scopes::leave(change, &row.app, &row.env)?;
    drafts::remove_all(change, row.id)?;
    rules::end_promotion(change.tx, change.tenant.id, &mut row);
    let gone = delete_versions(change.tx, &mut change.tenant, row.id, limits::VERSIONS_PER_DELETE)?;
    if gone == limits::VERSIONS_PER_DELETE {
        leftover::put(change.tx, change.tenant.id, row.id, &store::Leftover { deleted_ms: change.now_ms });
    }
    change.tenant.configs = change.tenant.configs.saturating_sub(1);
    let rules_before = std::mem::take(&mut row.rules);
    Ok(change.commit(Kind::Deleted, row, rules_before, 0, &[])?)
}

/// Deletes up to `max` versions of the config and what they alone refer to; answers how many. The tenant's counts follow; its row
/// is the caller's to write.
pub(super) fn delete_versions(
    tx: &mut Tx<'_>,
    owner: &mut store::Tenant,
    config: u64,
    max: usize,
) -> Result<usize, FatalError> {
    let mut going: Vec<store::Version> = Vec::new();
    if max == 0 {
        return Ok(0);
    }
    version::each_back(tx, owner.id, config, 0, |version| {
        going.push(version);
        Ok(if going.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    for version in &going {
        delete_version(tx, owner, config, version)?;
    }
    Ok(going.len())
}

/// Deletes one version and its hold on its content.
pub(super) fn delete_version(
    tx: &mut Tx<'_>,
    owner: &mut store::Tenant,
    config: u64,
    row: &store::Version,
) -> Result<(), FatalError> {
    version::delete(tx, owner.id, config, row.number);
    owner.versions = owner.versions.saturating_sub(1);
    content::release(tx, owner, &row.sha256, row.size)
}
