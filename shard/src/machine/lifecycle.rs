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
    store::{keys::Family, tenant},
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
            Ok(enter(tx, store::Tenant { epoch, tracked_move: 0, touched_seq: 0, ..own }, TenantState::Deleting))
        }
        Some(TenantState::Deleting | TenantState::Deleted) if own.epoch <= epoch => {
            Ok((answer(&own, state == Some(TenantState::Deleting), 0), Vec::new()))
        }
        Some(_) => Err(query::wrong_epoch(own.epoch).into()),
    }
}

/// Deletes the next rows of a tenant that is being deleted; when none is left, its row becomes the tombstone.
pub(super) fn sweep_tenant(tx: &mut Tx<'_>, command: &ShardCommand, op: &log::SweepTenant) -> Outcome {
    let (own, state) = standing(tx, command.tenant_id)?;
    match state {
        Some(TenantState::Deleted) if own.epoch == command.epoch => Ok((answer(&own, false, 0), Vec::new())),
        Some(TenantState::Deleting) if own.epoch == command.epoch => {
            let max = rows_of(op.max_rows);
            let keys = next_rows(tx, own.id, max)?;
            for key in &keys.found {
                tx.delete(key);
            }
            let rows = u32::try_from(keys.found.len()).unwrap_or(u32::MAX);
            if keys.more {
                return Ok((answer(&own, true, rows), Vec::new()));
            }
            let tombstone =
                store::Tenant { id: own.id, epoch: own.epoch, ended_move: own.ended_move, ..counts_of(&own) };
            let (done, notices) = enter(tx, tombstone, TenantState::Deleted);
            Ok((TenantAnswer { rows, ..done }, notices))
        }
        // What has moved away, or came for nothing: the row stays as it is, the tombstone.
        Some(TenantState::Moved | TenantState::Absent) if own.epoch == command.epoch => {
            let keys = next_rows(tx, own.id, rows_of(op.max_rows))?;
            for key in &keys.found {
                tx.delete(key);
            }
            let rows = u32::try_from(keys.found.len()).unwrap_or(u32::MAX);
            Ok((answer(&own, keys.more, rows), Vec::new()))
        }
        _ => Err(query::wrong_epoch(own.epoch).into()),
    }
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

struct NextRows {
    found: Vec<Vec<u8>>,
    more: bool,
}

/// The tenant's first rows in all families but its own row: at most `max`, and no more bytes than one entry should read.
fn next_rows(rows: &dyn Read, id: u64, max: usize) -> Result<NextRows, FatalError> {
    let mut next = NextRows { found: Vec::new(), more: false };
    let mut bytes = 0;
    for family in Family::ALL.into_iter().filter(|f| *f != Family::Tenant) {
        let (from, to) = family.tenant_range(id);
        rows.scan(&from, &to, &mut |key, value| {
            if next.found.len() == max || bytes > limits::MAX_SWEEP_BYTES {
                next.more = true;
                return ControlFlow::Break(());
            }
            bytes += key.len() + value.len();
            next.found.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        if next.more {
            break;
        }
    }
    Ok(next)
}
