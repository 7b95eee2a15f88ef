//! Rows touched while a move copies them, in the order in which they were.

use std::ops::ControlFlow;

use conflux_raft::{FatalError, Read, Tx};

use super::{
    after,
    keys::{Family, Key},
    scan,
};

/// A row that was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Counts up from 1 within the move.
    pub seq: u64,
    /// The row's key as it is stored.
    pub key: Vec<u8>,
}

/// Notes that a row was touched.
pub fn put(tx: &mut Tx<'_>, tenant: u64, move_id: u64, seq: u64, key: &[u8]) {
    tx.put(Key::Touched { tenant, move_id, seq }.encode(), key);
}

/// The rows touched after `seq`, in order, at most `max`.
pub fn list(rows: &dyn Read, tenant: u64, move_id: u64, seq: u64, max: usize) -> Result<Vec<Touched>, FatalError> {
    let from = after(Key::Touched { tenant, move_id, seq }.encode());
    let to = after(Key::Touched { tenant, move_id, seq: u64::MAX }.encode());
    let mut found = Vec::new();
    scan(rows, (from, to), true, |key, value| {
        if found.len() == max {
            return Ok(ControlFlow::Break(()));
        }
        if let Key::Touched { seq, .. } = key {
            found.push(Touched { seq, key: value.to_vec() });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// The stored keys of notes of other moves than `kept` (0: of all), at most `max`.
pub fn superfluous(rows: &dyn Read, tenant: u64, kept: u64, max: usize) -> Result<Vec<Vec<u8>>, FatalError> {
    let mut found = Vec::new();
    scan(rows, Family::Touched.tenant_range(tenant), true, |key, _| {
        if found.len() == max {
            return Ok(ControlFlow::Break(()));
        }
        match key {
            // The notes of the move under way come after those of all that have ended.
            Key::Touched { move_id, .. } if move_id == kept => Ok(ControlFlow::Break(())),
            key => {
                found.push(key.encode());
                Ok(ControlFlow::Continue(()))
            }
        }
    })?;
    Ok(found)
}
