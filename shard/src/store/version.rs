//! Versions of configs.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{after, keys::Key, parse, read, scan, write_new};

/// The version with this number.
pub fn get(rows: &dyn Read, tenant: u64, config: u64, number: u64) -> Result<Option<store::Version>, FatalError> {
    read(rows, &Key::Version { tenant, config, number })
}

/// What a fetch needs of it.
pub fn served(row: store::Version) -> store::ServedVersion {
    let store::Version { number, sha256, format, media_type, size, .. } = row;
    store::ServedVersion { number, sha256, format, media_type, size }
}

/// Adds a version's row.
pub fn put(tx: &mut Tx<'_>, tenant: u64, config: u64, row: &store::Version) {
    write_new(tx, &Key::Version { tenant, config, number: row.number }, row);
}

/// Removes a version's row.
pub fn delete(tx: &mut Tx<'_>, tenant: u64, config: u64, number: u64) {
    tx.delete(&Key::Version { tenant, config, number }.encode());
}

/// Visits the config's versions, oldest first.
pub fn each(
    rows: &dyn Read,
    tenant: u64,
    config: u64,
    mut visit: impl FnMut(store::Version) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let from = Key::Version { tenant, config, number: 0 }.encode();
    let to = after(Key::Version { tenant, config, number: u64::MAX }.encode());
    scan(rows, (from, to), true, |key, value| visit(parse(&key, value)?))
}

/// Visits the config's versions below `before` (0: all), newest first.
pub fn each_back(
    rows: &dyn Read,
    tenant: u64,
    config: u64,
    before: u64,
    mut visit: impl FnMut(store::Version) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let from = Key::Version { tenant, config, number: 0 }.encode();
    let to = match before {
        0 => after(Key::Version { tenant, config, number: u64::MAX }.encode()),
        before => Key::Version { tenant, config, number: before }.encode(),
    };
    scan(rows, (from, to), false, |key, value| visit(parse(&key, value)?))
}
