//! The shard that gets the tenant.

use conflux_common::{
    error::{ApiError, Code},
    ids::TenantName,
};
use conflux_proto::{log, store};
use conflux_raft::Tx;

use super::{At, Outcome, Stop, TenantState, answer, enter, tenant, untracked};
use crate::{machine::tally::travels, store::keys::Key};

/// Room for the rows of a move; nothing of the tenant may be left from before.
pub(super) fn begin_import(tx: &mut Tx<'_>, (at, move_id): (At, u64), op: &log::BeginImport) -> Outcome {
    TenantName::new(op.name.as_str()).map_err(ApiError::from)?;
    if at.is(TenantState::Importing, move_id) || at.is(TenantState::Prepared, move_id) {
        return Ok((answer(&at.row, false, 0), Vec::new()));
    }
    let free = matches!(at.state, None | Some(TenantState::Moved | TenantState::Absent));
    if !free || at.row.rows > 0 || at.epoch <= at.row.epoch {
        return at.unfit("BeginImport");
    }
    let row = store::Tenant {
        id: at.id,
        name: op.name.clone(),
        epoch: at.epoch,
        move_id,
        // Whatever comes of the moves before this one is too late.
        ended_move: move_id - 1,
        ..Default::default()
    };
    Ok(enter(tx, row, TenantState::Importing))
}

/// Rows as they are at the source; those without a value are gone there. They follow on exactly where the import stands.
pub(super) fn import_rows(tx: &mut Tx<'_>, (at, move_id): (At, u64), op: &log::ImportRows) -> Outcome {
    let follows = at.row.import_cursor == op.after_cursor && at.row.import_seq == op.after_seq;
    if !at.is(TenantState::Importing, move_id) || at.row.epoch != at.epoch || !follows {
        return at.unfit("ImportRows");
    }
    for row in &op.rows {
        let ours = Key::decode(&row.key).is_ok_and(|key| key.tenant() == at.id && travels(&key));
        if !ours {
            return Err(ApiError::invalid("rows", "a key is not of this tenant's rows").into());
        }
    }
    for row in &op.rows {
        match &row.value {
            Some(value) => tx.put(&row.key[..], &value[..]),
            None => tx.delete(&row.key),
        }
    }
    let row = store::Tenant { import_cursor: op.cursor.clone(), import_whole: op.whole, import_seq: op.seq, ..at.row };
    tenant::put(tx, &row);
    Ok((answer(&row, false, u32::try_from(op.rows.len()).unwrap_or(u32::MAX)), Vec::new()))
}

/// All rows are here, which the sum proves; the source's own row comes with it. Not served yet.
pub(super) fn seal(tx: &mut Tx<'_>, (at, move_id): (At, u64), op: &log::Seal) -> Outcome {
    if at.is(TenantState::Prepared, move_id) {
        return Ok((answer(&at.row, false, 0), Vec::new()));
    }
    let frozen = op.tenant.as_ref().filter(|frozen| frozen.id == at.id && frozen.name == at.row.name);
    let Some(frozen) = frozen.filter(|_| at.is(TenantState::Importing, move_id) && at.row.epoch == at.epoch) else {
        return at.unfit("Seal");
    };
    let (theirs, ours) = ((&frozen.rows_hash, frozen.rows), (&at.row.rows_hash, at.row.rows));
    if !at.row.import_whole || theirs != ours {
        let text = format!("the rows are not those of the source: {} there, {} here", frozen.rows, at.row.rows);
        return Err(Stop::from(ApiError::new(Code::FailedPrecondition, text)));
    }
    let row = store::Tenant {
        epoch: at.epoch,
        move_id,
        ended_move: at.row.ended_move,
        // In the source's group time.
        forgotten_ms: 0,
        ..untracked(frozen.clone())
    };
    Ok(enter(tx, row, TenantState::Prepared))
}

/// Serves it: placement has committed the move.
pub(super) fn take_over(tx: &mut Tx<'_>, (at, _): (At, u64), move_id: u64) -> Outcome {
    if !at.is(TenantState::Prepared, move_id) || at.row.epoch != at.epoch {
        return at.unfit("TakeOver");
    }
    Ok(enter(tx, store::Tenant { move_id: 0, ended_move: move_id, ..at.row }, TenantState::Active))
}
