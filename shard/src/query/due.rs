//! What the leader should log of its own accord: promotions, expiry, and the rows of tenants that are being deleted or have
//! moved away.

use std::ops::ControlFlow;

use conflux_common::{
    error::ApiError,
    ids::{Epoch, TenantId},
};
use conflux_proto::log;
use conflux_raft::{FatalError, Read};

use super::{failed, state_of};
use crate::{
    machine::{TenantState, limits},
    store::{config, idempotency, leftover, promotion, tenant, touched},
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
    /// `ForgetTouched`.
    ForgetTouched,
    /// `Expire`.
    Expire,
    /// A version becomes the default.
    Promote(log::Promote),
}

/// The first `max` tenants for which something is due at this group time.
pub fn due(rows: &dyn Read, now_ms: u64, max: usize) -> Result<Vec<Due>, ApiError> {
    let mut found = Vec::new();
    tenant::each(rows, |row| {
        if row.restored_ms != 0 && state_of(&row) == Some(TenantState::Active) {
            // It waits, and so does what is due of it.
            return Ok(ControlFlow::Continue(()));
        }
        let work = match state_of(&row) {
            Some(TenantState::Deleting) => Some(DueWork::Sweep),
            Some(TenantState::Moved | TenantState::Absent) => {
                let left = row.rows > 0 || !touched::superfluous(rows, row.id, 0, 1)?.is_empty();
                left.then_some(DueWork::Sweep)
            }
            Some(TenantState::Active) => {
                let events = row.revision - row.event_floor > limits::RETAINED_EVENTS;
                let records = row.audit_seq - row.audit_floor > limits::RETAINED_AUDIT;
                let any = events
                    || records
                    || !idempotency::expired(rows, row.id, row.forgotten_ms, now_ms, 1)?.is_empty()
                    || leftover::first(rows, row.id)?.is_some();
                let noted = || touched::superfluous(rows, row.id, row.tracked_move, 1);
                match any {
                    true => Some(DueWork::Expire),
                    false if !noted()?.is_empty() => Some(DueWork::ForgetTouched),
                    false => None,
                }
            }
            // Frozen, nothing changes; what is imported is another shard's.
            Some(TenantState::Deleted | TenantState::Importing | TenantState::Prepared | TenantState::Frozen)
            | None => None,
        };
        if state_of(&row) == Some(TenantState::Active) {
            // First, since users wait for them to the second.
            let due = promotions(rows, row.id, now_ms)?;
            let at = |work| Due { tenant: TenantId(row.id), epoch: Epoch(row.epoch), work };
            found.extend(due.into_iter().map(|promote| at(DueWork::Promote(promote))));
        }
        if let Some(work) = work {
            found.push(Due { tenant: TenantId(row.id), epoch: Epoch(row.epoch), work });
        }
        Ok(if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .map_err(failed)?;
    Ok(found)
}

/// Promotions of one tenant that are looked at in one round.
const PROMOTIONS: usize = 64;

/// The promotions of this tenant that are due.
fn promotions(rows: &dyn Read, tenant: u64, now_ms: u64) -> Result<Vec<log::Promote>, FatalError> {
    let mut due = Vec::new();
    for (due_ms, config_id) in promotion::first(rows, tenant, PROMOTIONS)? {
        if due_ms > now_ms {
            break;
        }
        let promised = config::get(rows, tenant, config_id)?.and_then(|c| c.promotion);
        due.extend(promised.map(|p| log::Promote { config_id, version: p.version, due_ms: p.due_ms }));
    }
    Ok(due)
}

/// When the next promotion of all tenants here is due, in group time.
pub fn next_promotion(rows: &dyn Read) -> Result<Option<u64>, ApiError> {
    let mut next: Option<u64> = None;
    tenant::each(rows, |row| {
        if state_of(&row) == Some(TenantState::Active) && row.restored_ms == 0 {
            let first = promotion::first(rows, row.id, 1)?.first().map(|(due_ms, _)| *due_ms);
            next = next.into_iter().chain(first).min();
        }
        Ok(ControlFlow::Continue(()))
    })
    .map_err(failed)?;
    Ok(next)
}
