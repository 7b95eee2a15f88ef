//! What a backup of a shard holds, and what a restored one begins with (ADR 4).

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx, backup::Content};
use sha2::{Digest, Sha256};

use crate::{
    machine::TenantState,
    query::{self, state_of},
    store::{keys::Family, tenant},
};

/// Every tenant that the shard has a row of, by id. The hash is over all rows but that of counters and ownership, which
/// differs in a restored state (its fields that matter are told), and what a move notes for itself.
pub fn contents(rows: &dyn Read) -> Result<Vec<Content>, FatalError> {
    let mut contents = Vec::new();
    tenant::each(rows, |row| {
        contents.push(of_tenant(rows, row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(contents)
}

fn of_tenant(rows: &dyn Read, row: store::Tenant) -> Result<Content, FatalError> {
    let (mut count, mut bytes, mut hash) = (0, 0, Sha256::new());
    for family in Family::ALL.into_iter().filter(|f| !matches!(f, Family::Tenant | Family::Touched)) {
        let (from, to) = family.tenant_range(row.id);
        rows.scan(&from, &to, &mut |key, value| {
            count += 1;
            bytes += (key.len() + value.len()) as u64;
            for part in [key, value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(Content {
        id: row.id,
        name: row.name,
        state: row.state,
        shard: String::new(),
        epoch: row.epoch,
        incarnation: row.incarnation,
        revision: row.revision,
        rows: count,
        bytes,
        sha256: hex::encode(hash.finalize()),
    })
}

/// Looks for what no hash shows: the audit chain of each tenant. The text names the first that is broken.
pub fn check(rows: &dyn Read) -> Result<(), String> {
    let mut broken = None;
    let visited = tenant::each(rows, |row| {
        if state_of(&row) != Some(TenantState::Active) {
            return Ok(ControlFlow::Continue(()));
        }
        let verdict = query::verify_audit(rows, &row).map_err(|e| FatalError(e.to_string()))?;
        if let Some(found) = verdict.broken {
            broken = Some(format!("the audit chain of tenant {} is broken at {}: {}", row.name, found.seq, found.why));
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    });
    visited.map_err(|e| e.to_string())?;
    broken.map_or(Ok(()), Err)
}

/// Makes the rows of a backup those of a restored shard: every tenant gets another incarnation, since the old group may
/// have acknowledged more than the backup holds, and none is served before it was compared with placement. Not applied
/// from the log: done once, before the first start.
pub fn prepare(tx: &mut Tx<'_>, restored_ms: u64) -> Result<(), FatalError> {
    let mut rows = Vec::new();
    tenant::each(&*tx, |row| {
        if matches!(state_of(&row), Some(TenantState::Active | TenantState::Frozen)) {
            rows.push(row);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for row in rows {
        // The moment, so that no second restore of the same backup repeats the incarnation of the first.
        let incarnation = (row.incarnation + 1).max(restored_ms / 1000);
        tenant::put(tx, &store::Tenant { incarnation, restored_ms: restored_ms.max(1), ..row });
    }
    Ok(())
}
