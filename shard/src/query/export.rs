//! The next rows of a tenant that is copied to another shard.

use std::{collections::HashSet, ops::ControlFlow};

use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    internal::{ExportRowsRequest, ExportRowsResponse},
    log::Row,
};
use conflux_raft::{FatalError, Read};

use super::{TenantRow, failed, state_of};
use crate::{
    machine::{TenantState, travels},
    store::{
        after,
        keys::{Family, Key},
        scan, touched,
    },
};

/// Touched rows that one answer looks at.
const MAX_TOUCHED: usize = 4096;

/// Whether the tenant is copied from here by this move.
pub fn is_tracked(row: &TenantRow, asked: &ExportRowsRequest) -> bool {
    let here = matches!(state_of(row), Some(TenantState::Active | TenantState::Frozen));
    here && row.epoch == asked.epoch && row.tracked_move == asked.r#move
}

/// The rows after where the import stands: first all, in the order of their keys, then those that were touched since the move
/// began, as they are now. Whatever changes between two answers was touched: it comes again.
pub fn export(rows: &dyn Read, row: &TenantRow, asked: &ExportRowsRequest) -> Result<ExportRowsResponse, ApiError> {
    if !is_tracked(row, asked) {
        return Err(ApiError::new(Code::Aborted, "the tenant is not copied from here by this move"));
    }
    let mut page = ExportRowsResponse {
        cursor: asked.cursor.clone(),
        whole: asked.whole,
        seq: asked.seq,
        touched_seq: row.touched_seq,
        row_bytes: row.row_bytes,
        ..Default::default()
    };
    let max = (asked.max_bytes as usize).max(1);
    if asked.whole { touched_rows(rows, row, max, &mut page) } else { all_rows(rows, row.id, max, &mut page) }
        .map_err(failed)?;
    let frozen = state_of(row) == Some(TenantState::Frozen) && row.move_id == asked.r#move;
    if frozen && page.whole && page.seq == row.touched_seq {
        page.frozen = Some(row.clone());
    }
    Ok(page)
}

fn all_rows(rows: &dyn Read, id: u64, max: usize, page: &mut ExportRowsResponse) -> Result<(), FatalError> {
    let mut bytes = 0;
    let mut full = false;
    for family in Family::ALL.into_iter().filter(|f| !matches!(f, Family::Tenant | Family::Touched)) {
        let (first, to) = family.tenant_range(id);
        let from = if page.cursor.as_ref() < first.as_slice() { first } else { after(page.cursor.to_vec()) };
        if from >= to {
            continue;
        }
        scan(rows, (from, to), true, |key, value| {
            let key = key.encode();
            full = bytes > 0 && bytes + key.len() + value.len() > max;
            if full {
                return Ok(ControlFlow::Break(()));
            }
            bytes += key.len() + value.len();
            page.cursor = key.clone().into();
            page.rows.push(Row { key: key.into(), value: Some(value.to_vec().into()) });
            Ok(ControlFlow::Continue(()))
        })?;
        if full {
            return Ok(());
        }
    }
    page.whole = true;
    Ok(())
}

fn touched_rows(rows: &dyn Read, row: &TenantRow, max: usize, page: &mut ExportRowsResponse) -> Result<(), FatalError> {
    let mut bytes = 0;
    let mut seen = HashSet::new();
    for noted in touched::list(rows, row.id, row.tracked_move, page.seq, MAX_TOUCHED)? {
        // As it is now: once is enough, whatever happened to it since.
        if !seen.contains(&noted.key) {
            let value = rows.get(&noted.key)?;
            let size = noted.key.len() + value.as_ref().map_or(0, Vec::len);
            if bytes > 0 && bytes + size > max {
                return Ok(());
            }
            bytes += size;
            debug_assert!(Key::decode(&noted.key).is_ok_and(|key| travels(&key)), "only rows that travel are noted");
            page.rows.push(Row { key: noted.key.clone().into(), value: value.map(Into::into) });
            seen.insert(noted.key);
        }
        page.seq = noted.seq;
    }
    Ok(())
}
