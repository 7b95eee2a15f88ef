//! What the shard knows of a tenant: ownership and counters.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{
    keys::{Family, Key},
    parse, read, scan, write,
};

/// The tenant's row; none: this shard never heard of it.
pub fn get(rows: &dyn Read, tenant: u64) -> Result<Option<store::Tenant>, FatalError> {
    read(rows, &Key::Tenant { tenant })
}

/// Sets the tenant's row.
pub fn put(tx: &mut Tx<'_>, row: &store::Tenant) {
    write(tx, &Key::Tenant { tenant: row.id }, row);
}

/// Visits every tenant's row in the order of their ids.
pub fn each(
    rows: &dyn Read,
    mut visit: impl FnMut(store::Tenant) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    scan(rows, Family::Tenant.range(), true, |key, value| visit(parse(&key, value)?))
}
