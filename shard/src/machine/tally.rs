//! What every command leaves beside its rows: the sum, number and bytes of the tenant's rows, and, while a move copies the
//! tenant, a note of each row touched (docs/adr/0003-moves.md).
//!
//! The sum adds a hash of each row, word by word, so that a command changes it by the rows that it touched alone; two
//! replicas, or the two ends of a move, have the same rows exactly if they have the same sum. A tenant that goes has no sum any more.

use conflux_proto::store;
use conflux_raft::{FatalError, Tx};
use sha2::{Digest, Sha256};

use super::notice::TenantState;
use crate::{
    query,
    store::{
        keys::{Family, Key},
        tenant, touched,
    },
};

/// Four words, each of which wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum([u64; 4]);

impl Sum {
    fn stored(bytes: &[u8]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Self(words)
    }

    /// None at all for no rows, so that a tenant without rows has a row without a sum.
    fn to_stored(self) -> bytes::Bytes {
        if self == Self::default() {
            return bytes::Bytes::new();
        }
        self.0.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>().into()
    }

    fn add(&mut self, row: Self) {
        self.0.iter_mut().zip(row.0).for_each(|(word, other)| *word = word.wrapping_add(other));
    }

    fn take(&mut self, row: Self) {
        self.0.iter_mut().zip(row.0).for_each(|(word, other)| *word = word.wrapping_sub(other));
    }

    fn of(key: &[u8], value: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        match key.first() {
            // Its key is the hash of its bytes: hashing a mebibyte once more would say nothing new.
            Some(family) if *family == Family::Content as u8 => hash.update((value.len() as u64).to_be_bytes()),
            _ => hash.update(value),
        }
        Self::stored(&hash.finalize())
    }
}

/// Whether rows of this family are counted, and travel with the tenant.
pub(crate) fn travels(key: &Key<'_>) -> bool {
    !matches!(key, Key::Tenant { .. } | Key::Touched { .. })
}

/// Whether its rows only go: nobody compares them, and what sweeps them counts them.
fn goes(row: &store::Tenant) -> bool {
    use TenantState::{Absent, Deleted, Deleting, Moved};
    matches!(query::state_of(row), Some(Deleting | Deleted | Moved | Absent))
}

/// Counts what this command has done to the rows of its tenant. The last thing that a command does.
pub(super) fn count(tx: &mut Tx<'_>, id: u64) -> Result<(), FatalError> {
    let row = tenant::get(tx, id)?;
    if row.as_ref().is_some_and(goes) {
        return Ok(());
    }
    let (mut more, mut less) = (Sum::default(), Sum::default());
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    let mut keys = Vec::new();
    for (key, value) in tx.touched() {
        let read = Key::decode(key).map_err(|e| FatalError(e.to_string()))?;
        if read.tenant() != id {
            return Err(FatalError(format!("a command of tenant {id} has touched the row {read:?}")));
        }
        if !travels(&read) {
            continue;
        }
        let before = tx.before(key)?;
        if before.as_deref() == value {
            continue;
        }
        if let Some(before) = before {
            less.add(Sum::of(key, &before));
            rows = rows.wrapping_sub(1);
            bytes = bytes.wrapping_sub((key.len() + before.len()) as u64);
        }
        if let Some(value) = value {
            more.add(Sum::of(key, value));
            rows = rows.wrapping_add(1);
            bytes = bytes.wrapping_add((key.len() + value.len()) as u64);
        }
        keys.push(key.to_vec());
    }
    if keys.is_empty() {
        return Ok(());
    }
    let Some(mut row) = row else {
        return Err(FatalError(format!("a command has touched rows of tenant {id}, which has no row")));
    };
    let mut sum = Sum::stored(&row.rows_hash);
    sum.add(more);
    sum.take(less);
    row.rows_hash = sum.to_stored();
    row.rows = row.rows.wrapping_add(rows);
    row.row_bytes = row.row_bytes.wrapping_add(bytes);
    if row.tracked_move != 0 {
        for key in keys {
            row.touched_seq += 1;
            touched::put(tx, id, row.tracked_move, row.touched_seq, &key);
        }
    }
    tenant::put(tx, &row);
    Ok(())
}

/// The counts of a row whose tenant goes, which its successor begins with.
pub(super) fn counts_of(row: &store::Tenant) -> store::Tenant {
    store::Tenant { rows: row.rows, row_bytes: row.row_bytes, ..store::Tenant::default() }
}

/// Counts the rows of a tenant one by one: sum as it is stored, number, bytes.
#[cfg(test)]
pub(crate) fn recount(rows: &dyn conflux_raft::Read, id: u64) -> (bytes::Bytes, u64, u64) {
    let (mut sum, mut number, mut bytes) = (Sum::default(), 0, 0);
    for family in Family::ALL.into_iter().filter(|f| !matches!(f, Family::Tenant | Family::Touched)) {
        crate::store::scan(rows, family.tenant_range(id), true, |key, value| {
            let key = key.encode();
            sum.add(Sum::of(&key, value));
            number += 1;
            bytes += (key.len() + value.len()) as u64;
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .unwrap();
    }
    (sum.to_stored(), number, bytes)
}
