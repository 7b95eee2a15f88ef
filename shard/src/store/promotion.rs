//! When the promotions of a tenant are due: an index of what stands in the configs' rows.

use std::ops::ControlFlow;

use conflux_raft::{FatalError, Read, Tx};

use super::{
    keys::{Family, Key},
    scan,
};

/// Notes that the config's promotion is due then.
pub fn put(tx: &mut Tx<'_>, tenant: u64, due_ms: u64, config: u64) {
    tx.put(Key::Promotion { tenant, due_ms, config }.encode(), []);
}

/// The config's promotion is due no more.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, due_ms: u64, config: u64) {
    tx.delete(&Key::Promotion { tenant, due_ms, config }.encode());
}

/// The first `max` of the tenant's promotions: when they are due, and of which config.
pub fn first(rows: &dyn Read, tenant: u64, max: usize) -> Result<Vec<(u64, u64)>, FatalError> {
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    scan(rows, Family::Promotion.tenant_range(tenant), true, |key, _| {
        if let Key::Promotion { due_ms, config, .. } = key {
            found.push((due_ms, config));
        }
        Ok(if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}
