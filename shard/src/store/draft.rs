//! Drafts: contents saved without a version.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{after, keys::Key, parse, read, scan, write};

/// The draft with this number.
pub fn get(rows: &dyn Read, tenant: u64, config: u64, number: u64) -> Result<Option<store::Draft>, FatalError> {
    read(rows, &Key::Draft { tenant, config, number })
}

/// Sets a draft's row.
pub fn put(tx: &mut Tx<'_>, tenant: u64, config: u64, row: &store::Draft) {
    write(tx, &Key::Draft { tenant, config, number: row.number }, row);
}

/// Removes a draft's row.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, config: u64, number: u64) {
    tx.delete(&Key::Draft { tenant, config, number }.encode());
}

/// All drafts of the config, oldest first: there are at most as many as `limits::MAX_DRAFTS`.
pub fn all(rows: &dyn Read, tenant: u64, config: u64) -> Result<Vec<store::Draft>, FatalError> {
    let from = Key::Draft { tenant, config, number: 0 }.encode();
    let to = after(Key::Draft { tenant, config, number: u64::MAX }.encode());
    let mut found = Vec::new();
    scan(rows, (from, to), true, |key, value| {
        found.push(parse(&key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
