//! Whether a tenant is served here, and under which epoch.

use std::ops::ControlFlow;

use conflux_common::{
    error::{ApiError, Hint},
    ids::{Epoch, TenantId},
};
use conflux_proto::store;
use conflux_raft::Read;

use super::failed;
use crate::{machine::TenantState, store::tenant as row};

/// What the shard knows of a tenant.
pub type TenantRow = store::Tenant;

/// The tenant's row in any state; none: this shard never heard of it.
pub fn tenant(rows: &dyn Read, id: TenantId) -> Result<Option<TenantRow>, ApiError> {
    row::get(rows, id.0).map_err(failed)
}

/// The tenants that are served here, by id.
pub fn active(rows: &dyn Read) -> Result<Vec<TenantId>, ApiError> {
    let mut found = Vec::new();
    row::each(rows, |tenant| {
        if state_of(&tenant) == Some(TenantState::Active) {
            found.push(TenantId(tenant.id));
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(failed)?;
    Ok(found)
}

/// The state of a row. An unknown one (of a newer version) is none that is served.
pub fn state_of(row: &TenantRow) -> Option<TenantState> {
    TenantState::from_name(&row.state)
}

/// The row of a tenant that is served here under exactly this epoch; else UNAVAILABLE with
/// [`Hint::WrongEpoch`] and the epoch that this shard has (0: none).
pub fn check_owner(rows: &dyn Read, id: TenantId, epoch: Epoch) -> Result<TenantRow, ApiError> {
    let row = tenant(rows, id)?;
    match row {
        Some(row) if row.epoch == epoch.0 && state_of(&row) == Some(TenantState::Active) => Ok(row),
        row => Err(wrong_epoch(row.map_or(0, |r| r.epoch))),
    }
}

/// The refusal of a request for a tenant that is not here under its epoch.
pub(crate) fn wrong_epoch(own: u64) -> ApiError {
    ApiError::elsewhere(Hint::WrongEpoch(own), "the tenant is not served here under this epoch")
}
