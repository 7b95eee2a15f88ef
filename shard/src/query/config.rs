//! One config: its record, its releases, its ETag.

use conflux_common::{
    error::{ApiError, Code},
    ids::{ConfigId, Incarnation, Revision, RevisionMark},
};
use conflux_proto::{store, v1};
use conflux_raft::Read;

use super::{TenantRow, failed};
use crate::store::config as row;

/// A revision of the tenant as it is shown outside.
pub fn mark(tenant: &TenantRow, revision: u64) -> RevisionMark {
    RevisionMark { incarnation: Incarnation(tenant.incarnation), revision: Revision(revision) }
}

/// The ETag of a config: its last revision, quoted. For `If-Match`.
pub fn etag(tenant: &TenantRow, revision: u64) -> String {
    format!("\"{}\"", mark(tenant, revision))
}

/// What is said of a config that is not there, or that the reader may not see.
pub(crate) fn not_found(what: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::NotFound, format!("{what} does not exist"))
}

/// The config with this id.
pub fn get_config(rows: &dyn Read, tenant: &TenantRow, id: ConfigId) -> Result<store::Config, ApiError> {
    row::get(rows, tenant.id, id.0).map_err(failed)?.ok_or_else(|| not_found(format_args!("config {id}")))
}

/// The config with this name.
pub fn config_by_name(
    rows: &dyn Read,
    tenant: &TenantRow,
    app: &str,
    env: &str,
    name: &str,
) -> Result<store::Config, ApiError> {
    row::by_name(rows, tenant.id, app, env, name)
        .map_err(failed)?
        .ok_or_else(|| not_found(format_args!("config {app}/{env}/{name}")))
}

/// The config as it is shown outside.
pub fn shown_config(tenant: &TenantRow, row: store::Config) -> v1::Config {
    v1::Config {
        id: ConfigId(row.id).to_string(),
        etag: etag(tenant, row.revision),
        revision: mark(tenant, row.revision).to_string(),
        app: row.app,
        env: row.env,
        name: row.name,
        format: row.format,
        description: row.description,
        latest_version: row.latest_version,
        releases: row.rules,
        tags: row.tags,
        created_ms: row.created_ms,
        updated_ms: row.updated_ms,
        created_by: row.created_by,
        schema: row.schema,
        retention: row.retention,
        promotion: row.promotion.map(|p| v1::Promotion {
            version: p.version,
            due_ms: p.due_ms,
            created_by: p.created_by,
        }),
        versions: row.versions,
    }
}

/// The release rules of a config.
pub fn releases(rows: &dyn Read, tenant: &TenantRow, id: ConfigId) -> Result<v1::Releases, ApiError> {
    let row = get_config(rows, tenant, id)?;
    Ok(v1::Releases { config_id: id.to_string(), etag: etag(tenant, row.revision), rules: row.rules })
}
