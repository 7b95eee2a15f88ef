//! Whether a tenant is served here, and under which epoch.

use std::ops::ControlFlow;

use conflux_common::{
    error::{ApiError, Code, Hint},
    ids::{Epoch, TenantId},
};
use conflux_proto::store;
use conflux_raft::Read;

use super::failed;
use crate::{
    machine::TenantState,
    store::{keys::Family, scan, tenant as row},
};

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
        if state_of(&tenant) == Some(TenantState::Active) && tenant.restored_ms == 0 {
            found.push(TenantId(tenant.id));
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(failed)?;
    Ok(found)
}

/// The rows of all tenants of which more is here than a tombstone.
pub fn stored(rows: &dyn Read) -> Result<Vec<TenantRow>, ApiError> {
    let mut found = Vec::new();
    row::each(rows, |tenant| {
        if tenant.rows > 0 || state_of(&tenant) == Some(TenantState::Active) {
            found.push(tenant);
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

/// The row of a tenant that is served here under exactly this epoch; else UNAVAILABLE with [`Hint::Frozen`], or
/// [`Hint::WrongEpoch`] and the epoch that this shard has (0: none).
pub fn check_owner(rows: &dyn Read, id: TenantId, epoch: Epoch) -> Result<TenantRow, ApiError> {
    let Some(row) = tenant(rows, id)? else { return Err(wrong_epoch(0)) };
    check_compared(&row)?;
    match state_of(&row) {
        Some(TenantState::Active) if row.epoch == epoch.0 => Ok(row),
        Some(TenantState::Frozen) if row.epoch == epoch.0 => Err(frozen()),
        _ => Err(wrong_epoch(shown_epoch(&row))),
    }
}

/// The epoch that a refusal may tell: 0 for one that is not given out until a move is committed.
pub(crate) fn shown_epoch(row: &TenantRow) -> u64 {
    match state_of(row) {
        Some(TenantState::Importing | TenantState::Prepared | TenantState::Absent) => 0,
        _ => row.epoch,
    }
}

/// The refusal of what must wait until it is decided which shard has the tenant.
pub(crate) fn frozen() -> ApiError {
    ApiError::elsewhere(Hint::Frozen, "the tenant is being moved to another shard: repeat this in a moment")
}

/// Whether it came from a backup and was not compared with placement yet: then it is not served.
pub fn waits(row: &TenantRow) -> bool {
    row.restored_ms != 0 && matches!(state_of(row), Some(TenantState::Active | TenantState::Frozen))
}

/// Refuses a tenant that [`waits`].
pub fn check_compared(row: &TenantRow) -> Result<(), ApiError> {
    if waits(row) { Err(not_compared()) } else { Ok(()) }
}

/// The refusal of any request for a tenant that came from a backup and was not compared with placement yet.
fn not_compared() -> ApiError {
    let why = "the tenant was restored from a backup and waits to be compared with placement (conflux restored list)";
    ApiError::new(Code::Unavailable, why)
}

/// The restored tenants that are not served, after this id, at most so many.
pub fn not_served(rows: &dyn Read, after: u64, max: usize) -> Result<Vec<TenantRow>, ApiError> {
    let mut found = Vec::new();
    row::each(rows, |tenant| {
        if waits(&tenant) && tenant.id > after {
            found.push(tenant);
        }
        Ok(if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .map_err(failed)?;
    Ok(found)
}

/// The highest id of which there is a row, tombstones too; 0: none.
pub fn highest_tenant(rows: &dyn Read) -> Result<u64, ApiError> {
    let (from, to) = Family::Tenant.range();
    let mut highest = 0;
    scan(rows, (from, to), false, |key, _| {
        highest = key.tenant();
        Ok(ControlFlow::Break(()))
    })
    .map_err(failed)?;
    Ok(highest)
}

/// The refusal of a request for a tenant that is not here under its epoch.
pub(crate) fn wrong_epoch(own: u64) -> ApiError {
    ApiError::elsewhere(Hint::WrongEpoch(own), "the tenant is not served here under this epoch")
}
