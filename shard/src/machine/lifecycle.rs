//! What this shard is to a tenant: Activate, DeleteTenant, SweepTenant (DESIGN section 4).
//!
//! | own state | Activate{e} | DeleteTenant{e} | SweepTenant{e} |
//! |---|---|---|---|
//! | none | Active{e} | tombstone{e} | wrong epoch |
//! | Active{own}, e > own | Active{e} | Deleting{e} | wrong epoch |
//! | Active{own}, e = own | takes over newer settings | wrong epoch | wrong epoch |
//! | Active{own}, e < own | wrong epoch | wrong epoch | wrong epoch |
//! | Active{own}, restored | wrong epoch, whatever e: only `ServeRestored{own}` makes it one that is served | e > own: Deleting{e} | wrong epoch |
//! | Deleting{own} | wrong epoch | as it is, e < own: wrong epoch | e = own: rows go, at the end the tombstone |
//! | Deleted{own} | wrong epoch, whatever e: ids are never used again | as it is, e < own: wrong epoch | e = own: as it is |
//! | Moved{own}, Absent | wrong epoch | wrong epoch | e = own: rows go, the row stays |
//!
//! What moves do to the state is in `moving`.

use std::ops::ControlFlow;

use conflux_common::{
    error::ApiError,
    ids::{Epoch, TenantId, TenantName},
};
use conflux_proto::{
    log::{self, ShardCommand, TenantAnswer},
    store,
};
use conflux_raft::{FatalError, Read, Tx};

use super::{
    limits,
    notice::{Notice, TenantState},
    stop::Stop,
    tally::counts_of,
};
use crate::{
    query,
    store::{after, keys::Family, tenant},
};

pub(super) type Outcome = Result<(TenantAnswer, Vec<Notice>), Stop>;

/// How many rows an entry may take that asks for so many.
pub(super) fn rows_of(asked: u32) -> usize {
    let rows = if asked == 0 { limits::DEFAULT_SWEEP_ROWS } else { asked.min(limits::MAX_SWEEP_ROWS) };
    rows as usize
}

/// Takes the tenant, or its new epoch.
pub(super) fn activate(tx: &mut Tx<'_>, command: &ShardCommand, op: &log::Activate) -> Outcome {
    let (id, epoch) = (command.tenant_id, command.epoch);
    TenantName::new(op.name.as_str()).map_err(ApiError::from)?;
    if id == 0 || epoch == 0 {
        return Err(ApiError::invalid("tenant_id, epoch", "count from 1").into());
    }
    let (own, state) = standing(tx, id)?;
    match state {
        None => {
            let name = op.name.clone();
            let row = store::Tenant { id, name, incarnation: op.incarnation, epoch, ..Default::default() };
            Ok(enter(tx, with_settings(row, op), TenantState::Active))
        }
        // Whether this copy is the one to serve is for `ServeRestored` to say.
        Some(TenantState::Active) if own.restored_ms != 0 => Err(query::wrong_epoch(own.epoch).into()),
        Some(TenantState::Active) if own.epoch == epoch => {
            let newer = with_settings(own.clone(), op);
            if newer != own {
                tenant::put(tx, &newer);
            }
            Ok((answer(&newer, false, 0), Vec::new()))
        }
        Some(TenantState::Active) if own.epoch < epoch => {
            Ok(enter(tx, with_settings(store::Tenant { epoch, ..own }, op), TenantState::Active))
        }
        Some(_) => Err(query::wrong_epoch(own.epoch).into()),
    }
}

/// The row with the settings of the command, if they are not older than its own.
fn with_settings(row: store::Tenant, op: &log::Activate) -> store::Tenant {
    if op.settings_seq < row.settings_seq {
        return row;
    }
    store::Tenant { quotas: op.quotas, settings_seq: op.settings_seq, ..row }
}

/// Serves a restored tenant again, under its own epoch or a higher one that placement has just given it.
pub(super) fn serve_restored(tx: &mut Tx<'_>, command: &ShardCommand, op: &log::ServeRestored) -> Outcome {
    let (own, state) = standing(tx, command.tenant_id)?;
    let fits = own.epoch == command.epoch && op.epoch >= own.epoch;
    if state != Some(TenantState::Active) || !fits {
        return Err(query::wrong_epoch(own.epoch).into());
    }
    Ok(enter(tx, store::Tenant { epoch: op.epoch, restored_ms: 0, ..own }, TenantState::Active))
}

/// Stops serving the tenant for good. Its rows go by `SweepTenant`.
pub(super) fn delete_tenant(tx: &mut Tx<'_>, command: &ShardCommand) -> Outcome {
    let (id, epoch) = (command.tenant_id, command.epoch);
    if id == 0 || epoch == 0 {
        return Err(ApiError::invalid("tenant_id, epoch", "count from 1").into());
    }
    let (own, state) = standing(tx, id)?;
    match state {
        // The tombstone keeps an Activate that is still under way from making a tenant that nobody wants.
        None => Ok(enter(tx, store::Tenant { id, epoch, ..Default::default() }, TenantState::Deleted)),
        Some(TenantState::Active) if own.epoch < epoch => {
            let row = store::Tenant { epoch, tracked_move: 0, touched_seq: 0, rows_hash: Default::default(), ..own };
            Ok(enter(tx, row, TenantState::Deleting))
        }
        Some(TenantState::Deleting | TenantState::Deleted) if own.epoch <= epoch => {
            Ok((answer(&own, state == Some(TenantState::Deleting), 0), Vec::new()))
        }
        Some(_) => Err(query::wrong_epoch(own.epoch).into()),
    }
}

/// Deletes the next rows of a tenant that is not served here any more; when none is left, the row of a deleted one becomes the
/// tombstone, that of one that has moved away, or came for nothing, is it already.
pub(super) fn sweep_tenant(tx: &mut Tx<'_>, command: &ShardCommand, op: &log::SweepTenant) -> Outcome {
    let (own, state) = standing(tx, command.tenant_id)?;
    if own.epoch != command.epoch {
        return Err(query::wrong_epoch(own.epoch).into());
    }
    let deleting = match state {
        Some(TenantState::Deleted) => return Ok((answer(&own, false, 0), Vec::new())),
        Some(TenantState::Deleting) => true,
        Some(TenantState::Moved | TenantState::Absent) => false,
        _ => return Err(query::wrong_epoch(own.epoch).into()),
    };
    let next = next_rows(tx, &own, rows_of(op.max_rows))?;
    for key in &next.keys {
        tx.delete(key);
    }
    let swept = u32::try_from(next.keys.len()).unwrap_or(u32::MAX);
    let own = store::Tenant {
        rows: own.rows.wrapping_sub(next.rows),
        row_bytes: own.row_bytes.wrapping_sub(next.bytes),
        sweep_cursor: next.keys.last().filter(|_| next.more).cloned().unwrap_or_default().into(),
        ..own
    };
    if next.more || !deleting {
        tenant::put(tx, &own);
        return Ok((answer(&own, next.more, swept), Vec::new()));
    }
    let tombstone = store::Tenant { id: own.id, epoch: own.epoch, ended_move: own.ended_move, ..counts_of(&own) };
    let (done, notices) = enter(tx, tombstone, TenantState::Deleted);
    Ok((TenantAnswer { rows: swept, ..done }, notices))
}

/// The tenant's row (empty where there is none) and its state.
pub(super) fn standing(rows: &dyn Read, id: u64) -> Result<(store::Tenant, Option<TenantState>), Stop> {
    let Some(row) = tenant::get(rows, id)? else { return Ok((store::Tenant::default(), None)) };
    let unknown = || FatalError(format!("tenant {id} is in state {:?}, which this binary does not know", row.state));
    let state = query::state_of(&row).ok_or_else(unknown)?;
    Ok((row, Some(state)))
}

pub(super) fn enter(tx: &mut Tx<'_>, row: store::Tenant, state: TenantState) -> (TenantAnswer, Vec<Notice>) {
    let row = store::Tenant { state: state.name().to_owned(), ..row };
    tenant::put(tx, &row);
    let notice = Notice::Tenant { tenant_id: TenantId(row.id), state, epoch: Epoch(row.epoch) };
    (answer(&row, state == TenantState::Deleting, 0), vec![notice])
}

pub(super) fn answer(row: &store::Tenant, more: bool, rows: u32) -> TenantAnswer {
    TenantAnswer { state: row.state.clone(), epoch: row.epoch, more, rows }
}

#[derive(Default)]
struct NextRows {
    keys: Vec<Vec<u8>>,
    /// How many of them are counted in the tenant's row, and their bytes.
    rows: u64,
    bytes: u64,
    more: bool,
}

/// The tenant's next rows in all families but its own row: at most `max`, and no more bytes than one entry should read. What was
/// swept before is not looked at again: a million deleted rows are passed as slowly as a million others until they are compacted.
fn next_rows(rows: &dyn Read, own: &store::Tenant, max: usize) -> Result<NextRows, FatalError> {
    let mut next = NextRows::default();
    let mut bytes = 0;
    for family in Family::ALL.into_iter().filter(|f| *f != Family::Tenant) {
        let (first, to) = family.tenant_range(own.id);
        let from = if own.sweep_cursor.as_ref() < first.as_slice() { first } else { after(own.sweep_cursor.to_vec()) };
        if from >= to {
            continue;
        }
        let counted = family != Family::Touched;
        rows.scan(&from, &to, &mut |key, value| {
            if next.keys.len() == max || bytes > limits::MAX_SWEEP_BYTES {
                next.more = true;
                return ControlFlow::Break(());
            }
            bytes += key.len() + value.len();
            if counted {
                next.rows += 1;
                next.bytes += (key.len() + value.len()) as u64;
            }
            next.keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        if next.more {
            break;
        }
    }
    Ok(next)
}
