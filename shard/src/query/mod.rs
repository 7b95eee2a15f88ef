//! Reading a tenant: pure functions over the rows of one moment. A caller holds one view for a whole answer, checks the
//! ownership first ([`check_owner`]), and passes the tenant's row on, so that the answer's revision is that of its data.

mod audit;
mod config;
mod cursor;
mod drafts;
mod due;
mod export;
mod fetch;
mod history;
mod list;
mod owner;
mod release_set;
mod released;
mod resolve;
mod scopes;
mod versions;

#[cfg(test)]
mod tests;

pub use audit::{AuditFilter, AuditVerdict, list_audit, verify_audit};
pub use config::{config_by_name, etag, get_config, mark, releases, shown_config};
pub use drafts::{Draft, draft, list_drafts};
pub use due::{Due, DueWork, due, next_promotion};
pub use export::{export, is_tracked};
pub use fetch::{Fetched, Resolved, content_etag, fetch, resolve};
pub(crate) use fetch::{rules_of, shown_hash};
pub(crate) use history::feed_event;
pub use history::history;
pub use list::{Filter, list};
pub use owner::{
    TenantRow, active, check_compared, check_owner, highest_tenant, not_served, state_of, stored, tenant, waits,
};
pub(crate) use owner::{frozen, shown_epoch, wrong_epoch};
pub use release_set::release_set;
pub use released::{Released, released};
pub use resolve::explain;
pub use scopes::{Scope, list_scopes, scope};
pub use versions::{ShownVersion, get_version, list_versions, shown as shown_version};

use conflux_common::error::{ApiError, Code};
use conflux_raft::FatalError;

/// A page holds so many entries where the caller names no number.
pub const DEFAULT_PAGE: usize = 100;
/// A page holds no more than so many entries.
pub const MAX_PAGE: usize = 1000;

/// How many entries a page holds when the caller asks for `limit` (0: no wish).
pub fn page_size(limit: u32) -> Result<usize, ApiError> {
    match limit as usize {
        0 => Ok(DEFAULT_PAGE),
        n if n <= MAX_PAGE => Ok(n),
        _ => Err(ApiError::invalid("limit", format!("1 to {MAX_PAGE}"))),
    }
}

/// What a reader is told when storage failed; the text of the failure is for the log.
pub(crate) fn failed(e: FatalError) -> ApiError {
    tracing::error!(error = %e, "a read of the state failed");
    ApiError::new(Code::Internal, "storage failed on this replica")
}
