//! The chain of a tenant's accepted changes: one row for each above the floor.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{after, keys::Key, parse, read, scan, write_new};

/// The record with this number.
pub fn get(rows: &dyn Read, tenant: u64, seq: u64) -> Result<Option<store::AuditRecord>, FatalError> {
    read(rows, &Key::Audit { tenant, seq })
}

/// Sets a record.
pub fn put(tx: &mut Tx<'_>, tenant: u64, row: &store::AuditRecord) {
    write_new(tx, &Key::Audit { tenant, seq: row.seq }, row);
}

/// Removes a record.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, seq: u64) {
    tx.delete(&Key::Audit { tenant, seq }.encode());
}

/// Visits the records from this number on, oldest first.
pub fn each(
    rows: &dyn Read,
    tenant: u64,
    from: u64,
    mut visit: impl FnMut(store::AuditRecord) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let from = Key::Audit { tenant, seq: from }.encode();
    let to = after(Key::Audit { tenant, seq: u64::MAX }.encode());
    scan(rows, (from, to), true, |key, value| visit(parse(&key, value)?))
}

/// Visits the records below `before` (0: all), newest first.
pub fn each_back(
    rows: &dyn Read,
    tenant: u64,
    before: u64,
    mut visit: impl FnMut(store::AuditRecord) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let from = Key::Audit { tenant, seq: 0 }.encode();
    let to = match before {
        0 => after(Key::Audit { tenant, seq: u64::MAX }.encode()),
        before => Key::Audit { tenant, seq: before }.encode(),
    };
    scan(rows, (from, to), false, |key, value| visit(parse(&key, value)?))
}
