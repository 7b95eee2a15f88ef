//! What the leader should log of its own accord: expiry, and the rows of tenants that are being deleted.

use std::ops::ControlFlow;

use conflux_common::{
    error::ApiError,
    ids::{Epoch, TenantId},
};
use conflux_raft::Read;

use super::{failed, state_of};
use crate::{
    machine::{TenantState, limits},
    store::{idempotency, leftover, tenant},
};

/// A tenant for which something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub tenant: TenantId,
    /// Its epoch here.
    pub epoch: Epoch,
    /// The command to log.
    pub work: DueWork,
}

/// The command to log; it is due again until nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueWork {
    /// `SweepTenant`.
    Sweep,
    /// `Expire`.
    Expire,
}

/// The first `max` tenants for which something is due at this group time.
pub fn due(rows: &dyn Read, now_ms: u64, max: usize) -> Result<Vec<Due>, ApiError> {
    let mut found = Vec::new();
    tenant::each(rows, |row| {
        let work = match state_of(&row) {
            Some(TenantState::Deleting) => Some(DueWork::Sweep),
            Some(TenantState::Active) => {
                let events = row.revision - row.event_floor > limits::RETAINED_EVENTS;
                let records = row.audit_seq - row.audit_floor > limits::RETAINED_AUDIT;
                let any = events
                    || records
                    || !idempotency::expired(rows, row.id, now_ms, 1)?.is_empty()
                    || leftover::first(rows, row.id)?.is_some();
                any.then_some(DueWork::Expire)
            }
            Some(TenantState::Deleted) | None => None,
        };
        if let Some(work) = work {
            found.push(Due { tenant: TenantId(row.id), epoch: Epoch(row.epoch), work });
        }
        Ok(if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .map_err(failed)?;
    Ok(found)
}
