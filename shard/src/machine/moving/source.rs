//! The shard that has the tenant.

use conflux_proto::{log, store};
use conflux_raft::Tx;

use super::{At, Outcome, TenantState, answer, counts_of, enter, tenant};
use crate::{machine::lifecycle::rows_of, query, store::touched};

/// From here on every touched row is noted: what the first pass of the copy reads too early comes again.
pub(super) fn track(tx: &mut Tx<'_>, (at, move_id): (At, u64), op: &log::Track) -> Outcome {
    if at.state != Some(TenantState::Active) || at.row.epoch != at.epoch {
        return Err(query::wrong_epoch(at.row.epoch).into());
    }
    if at.row.tracked_move == move_id {
        return Ok((answer(&at.row, false, 0), Vec::new()));
    }
    if at.row.tracked_move > move_id {
        return at.unfit("Track");
    }
    // A later move: whatever comes of the ones before is too late.
    let (moved_to, ended_move) = (op.to.clone(), move_id - 1);
    let row = store::Tenant { tracked_move: move_id, touched_seq: 0, moved_to, ended_move, ..at.row };
    tenant::put(tx, &row);
    Ok((answer(&row, false, 0), Vec::new()))
}

/// No more writes: the revision and the sum are final.
pub(super) fn freeze(tx: &mut Tx<'_>, (at, _): (At, u64), move_id: u64) -> Outcome {
    if at.is(TenantState::Frozen, move_id) && at.row.epoch == at.epoch {
        return Ok((answer(&at.row, false, 0), Vec::new()));
    }
    if at.state != Some(TenantState::Active) || at.row.epoch != at.epoch {
        return Err(query::wrong_epoch(at.row.epoch).into());
    }
    if at.row.tracked_move != move_id {
        return at.unfit("Freeze");
    }
    Ok(enter(tx, store::Tenant { move_id, ..at.row }, TenantState::Frozen))
}

/// Another shard has it. Its row becomes a tombstone; the others go by `SweepTenant`.
pub(super) fn depart(tx: &mut Tx<'_>, (at, move_id): (At, u64), op: &log::Depart) -> Outcome {
    if !at.is(TenantState::Frozen, move_id) || at.row.epoch != at.epoch || op.new_epoch <= at.row.epoch {
        return at.unfit("Depart");
    }
    let tombstone = store::Tenant {
        id: at.id,
        epoch: op.new_epoch,
        move_id,
        ended_move: move_id,
        moved_to: op.to.clone(),
        ..counts_of(&at.row)
    };
    Ok(enter(tx, tombstone, TenantState::Moved))
}

/// Forgets notes that no move asks for any more.
pub(super) fn forget_touched(tx: &mut Tx<'_>, at: At, max_rows: u32) -> Outcome {
    let max = rows_of(max_rows);
    let keys = touched::superfluous(tx, at.id, at.row.tracked_move, max)?;
    for key in &keys {
        tx.delete(key);
    }
    let rows = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    Ok((answer(&at.row, keys.len() == max, rows), Vec::new()))
}
