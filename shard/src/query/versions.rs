//! The versions of a config.

use std::ops::ControlFlow;

use conflux_common::{error::ApiError, ids::ConfigId};
use conflux_proto::{store, v1};
use conflux_raft::Read;

use super::{TenantRow, config::not_found, cursor, failed, fetch, get_config};
use crate::store::version as row;

/// How much of a version is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownVersion {
    /// All but the content.
    Record,
    /// With the content.
    Whole,
}

/// As callers see it, without its content.
pub fn shown(config: ConfigId, row: store::Version) -> v1::Version {
    v1::Version {
        config_id: config.to_string(),
        number: row.number,
        content: Default::default(),
        hash: fetch::shown_hash(&row.sha256),
        format: row.format,
        description: row.description,
        created_by: row.created_by,
        created_ms: row.created_ms,
        size: row.size,
        schema: row.schema,
        archived: false,
    }
}

/// One version.
pub fn get_version(
    rows: &dyn Read,
    tenant: &TenantRow,
    config: ConfigId,
    number: u64,
    how: ShownVersion,
) -> Result<v1::Version, ApiError> {
    get_config(rows, tenant, config)?;
    let row = row::get(rows, tenant.id, config.0, number)
        .map_err(failed)?
        .ok_or_else(|| not_found(format_args!("version {number} of config {config}")))?;
    let content = match how {
        ShownVersion::Record => Default::default(),
        ShownVersion::Whole => fetch::content_of(rows, tenant, row.number, &row.sha256)?,
    };
    Ok(v1::Version { content, ..shown(config, row) })
}

/// A page of versions without their contents, newest first, and the cursor of the next page (empty: this was the last).
pub fn list_versions(
    rows: &dyn Read,
    tenant: &TenantRow,
    config: ConfigId,
    limit: u32,
    cursor: &str,
) -> Result<(Vec<v1::Version>, String), ApiError> {
    let size = super::page_size(limit)?;
    let before = cursor::number(cursor)?;
    get_config(rows, tenant, config)?;
    let mut page: Vec<v1::Version> = Vec::new();
    let mut more = false;
    row::each_back(rows, tenant.id, config.0, before, |version| {
        if page.len() == size {
            more = true;
            return Ok(ControlFlow::Break(()));
        }
        page.push(shown(config, version));
        Ok(ControlFlow::Continue(()))
    })
    .map_err(failed)?;
    let next = match page.last() {
        Some(last) if more => cursor::of_number(last.number),
        _ => String::new(),
    };
    Ok((page, next))
}
