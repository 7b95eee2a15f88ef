//! Expire: what time has made superfluous. Logged by the leader while something is due (`query::due`).

use conflux_common::ids::{Epoch, TenantId};
use conflux_proto::{
    log::{self, ShardCommand, TenantAnswer},
    store,
};
use conflux_raft::{Entry, FatalError, Tx};

use super::{delete_config::delete_versions, levels, lifecycle::rows_of, limits, notice::Notice, stop::Stop};
use crate::{
    query,
    store::{audit, event, idempotency, leftover, tenant},
};

/// Removes, in this order and within the bound of rows: answers whose time has come by group time, events beyond those that
/// are kept, audit records beyond those that are kept, versions of deleted configs. No revision: nobody can tell but by the floor of the history.
pub(super) fn expire(
    tx: &mut Tx<'_>,
    command: &ShardCommand,
    op: &log::Expire,
    entry: &Entry<'_>,
) -> Result<(TenantAnswer, Vec<Notice>), Stop> {
    let mut row = query::check_owner(tx, TenantId(command.tenant_id), Epoch(command.epoch))?;
    let before = row.clone();
    let max = rows_of(op.max_rows);
    let mut left = max;

    let expired = idempotency::expired(tx, row.id, row.forgotten_ms, entry.stamp_ms, left)?;
    for (expires_ms, scope) in &expired {
        idempotency::delete(tx, row.id, *scope, *expires_ms);
        row.idempotency_records = row.idempotency_records.saturating_sub(1);
    }
    if entry.level >= levels::FORGOTTEN_MARK {
        // Others may expire in the same millisecond as the last of a full number.
        let full = expired.last().filter(|_| expired.len() == left);
        row.forgotten_ms = full.map_or(entry.stamp_ms, |(expires_ms, _)| expires_ms - 1);
    }
    left -= expired.len();
    let beyond = (row.revision - row.event_floor).saturating_sub(limits::RETAINED_EVENTS);
    for _ in 0..beyond.min(left as u64) {
        row.event_floor += 1;
        event::delete(tx, row.id, row.event_floor);
        left -= 1;
    }
    let old = (row.audit_seq - row.audit_floor).saturating_sub(limits::RETAINED_AUDIT);
    for _ in 0..old.min(left as u64) {
        row.audit_floor += 1;
        audit::delete(tx, row.id, row.audit_floor);
        left -= 1;
    }
    left -= finish_deletions(tx, &mut row, left)?;

    if row != before {
        tenant::put(tx, &row);
    }
    let answer = TenantAnswer {
        state: row.state.clone(),
        epoch: row.epoch,
        more: left == 0,
        rows: u32::try_from(max - left).unwrap_or(u32::MAX),
    };
    Ok((answer, Vec::new()))
}

/// Deletes versions of deleted configs; answers how many rows it took of the bound.
fn finish_deletions(tx: &mut Tx<'_>, owner: &mut store::Tenant, max: usize) -> Result<usize, FatalError> {
    let mut taken = 0;
    while taken < max {
        let Some(config) = leftover::first(tx, owner.id)? else { break };
        let room = max - taken;
        let gone = delete_versions(tx, owner, config, room)?;
        taken += gone;
        if gone < room {
            leftover::delete(tx, owner.id, config);
            taken += 1;
        }
    }
    Ok(taken)
}
