//! The drafts of a config.

use bytes::Bytes;
use conflux_common::{error::ApiError, ids::ConfigId};
use conflux_proto::store;
use conflux_raft::{FatalError, Read};

use super::{TenantRow, config::not_found, failed, get_config};
use crate::store::{content, draft as row};

/// A draft, with its content where that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The record.
    pub row: store::Draft,
    /// What was saved.
    pub content: Option<Bytes>,
}

/// One draft with its content.
pub fn draft(rows: &dyn Read, tenant: &TenantRow, config: ConfigId, number: u64) -> Result<Draft, ApiError> {
    get_config(rows, tenant, config)?;
    let found = row::get(rows, tenant.id, config.0, number).map_err(failed)?;
    let row = found.ok_or_else(|| not_found(format_args!("draft {number} of config {config}")))?;
    let missing = || FatalError(format!("the content of draft {number} of config {config} is missing"));
    let content = content::get(rows, tenant.id, &row.sha256).and_then(|c| c.ok_or_else(missing)).map_err(failed)?;
    Ok(Draft { row, content: Some(content) })
}

/// All drafts of a config without their contents, oldest first. They are few: `limits::MAX_DRAFTS`.
pub fn list_drafts(rows: &dyn Read, tenant: &TenantRow, config: ConfigId) -> Result<Vec<Draft>, ApiError> {
    get_config(rows, tenant, config)?;
    let rows = row::all(rows, tenant.id, config.0).map_err(failed)?;
    Ok(rows.into_iter().map(|row| Draft { row, content: None }).collect())
}
