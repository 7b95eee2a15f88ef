//! The event history of a tenant: one row for each revision above the floor.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{after, keys::Key, parse, scan, write_new};

/// Sets the events of a revision.
pub fn put(tx: &mut Tx<'_>, tenant: u64, revision: u64, row: &store::StoredRevision) {
    write_new(tx, &Key::Event { tenant, revision }, row);
}

/// Removes the events of a revision.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, revision: u64) {
    tx.delete(&Key::Event { tenant, revision }.encode());
}

/// Visits the events of the revisions above `after_revision` up to `to`, with the size of each row.
pub fn each(
    rows: &dyn Read,
    tenant: u64,
    after_revision: u64,
    to: u64,
    mut visit: impl FnMut(u64, store::StoredRevision, usize) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    if after_revision >= to {
        return Ok(());
    }
    let from = after(Key::Event { tenant, revision: after_revision }.encode());
    let end = after(Key::Event { tenant, revision: to }.encode());
    scan(rows, (from, end), true, |key, value| match key {
        Key::Event { revision, .. } => visit(revision, parse(&key, value)?, value.len()),
        _ => Ok(ControlFlow::Break(())),
    })
}
