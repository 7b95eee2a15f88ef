//! Deleted configs of which versions are left: so many versions do not go in one entry.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{
    keys::{Family, Key},
    scan, write,
};

/// Notes that versions of this config are left.
pub fn put(tx: &mut Tx<'_>, tenant: u64, config: u64, row: &store::Leftover) {
    write(tx, &Key::Leftover { tenant, config }, row);
}

/// Nothing of this config is left.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, config: u64) {
    tx.delete(&Key::Leftover { tenant, config }.encode());
}

/// The first config of which versions are left.
pub fn first(rows: &dyn Read, tenant: u64) -> Result<Option<u64>, FatalError> {
    let mut found = None;
    scan(rows, Family::Leftover.tenant_range(tenant), true, |key, _| {
        if let Key::Leftover { config, .. } = key {
            found = Some(config);
        }
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}
