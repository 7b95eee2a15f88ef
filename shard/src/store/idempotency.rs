//! Answers remembered under a key, and when they are forgotten.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{
    keys::{Family, Key},
    read, scan, write,
};

/// The record of this scope, expired or not.
pub fn get(rows: &dyn Read, tenant: u64, scope: [u8; 32]) -> Result<Option<store::IdempotencyRecord>, FatalError> {
    read(rows, &Key::Idempotency { tenant, scope })
}

/// Sets the record of this scope.
pub fn put(tx: &mut Tx<'_>, tenant: u64, scope: [u8; 32], row: &store::IdempotencyRecord) {
    write(tx, &Key::Idempotency { tenant, scope }, row);
    // One that it replaces expired earlier.
    tx.put_new(Key::IdempotencyExpiry { tenant, expires_ms: row.expires_ms, scope }.encode(), []);
}

/// Removes the record of this scope.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, scope: [u8; 32], expires_ms: u64) {
    tx.delete(&Key::Idempotency { tenant, scope }.encode());
    tx.delete(&Key::IdempotencyExpiry { tenant, expires_ms, scope }.encode());
}

/// The first records that expire after `after_ms` and at `now_ms` or before: when, and of which scope. To look below would be to pass
/// over everything that was deleted there of late.
pub fn expired(
    rows: &dyn Read,
    tenant: u64,
    after_ms: u64,
    now_ms: u64,
    max: usize,
) -> Result<Vec<(u64, [u8; 32])>, FatalError> {
    let mut found = Vec::new();
    if max == 0 || after_ms >= now_ms {
        return Ok(found);
    }
    let (_, to) = Family::IdempotencyExpiry.tenant_range(tenant);
    let from = Key::IdempotencyExpiry { tenant, expires_ms: after_ms + 1, scope: [0; 32] }.encode();
    scan(rows, (from, to), true, |key, _| {
        match key {
            Key::IdempotencyExpiry { expires_ms, scope, .. } if expires_ms <= now_ms => found.push((expires_ms, scope)),
            _ => return Ok(ControlFlow::Break(())),
        }
        Ok(if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}
