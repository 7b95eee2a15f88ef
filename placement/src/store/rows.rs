//! Rows as messages.

use std::ops::ControlFlow;

use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};
use prost::Message;

use super::keys::Key;

/// The row under this key.
pub fn load<M: Message + Default>(rows: &impl Read, key: &Key) -> Result<Option<M>, FatalError> {
    rows.get(&key.encode())?.map(|value| parse(&key.encode(), &value)).transpose()
}

/// Sets the row.
pub fn save<M: Message>(tx: &mut Tx<'_>, key: &Key, value: &M) {
    tx.put(key.encode(), value.encode_to_vec());
}

/// Sets a row that means something by being there.
pub fn mark(tx: &mut Tx<'_>, key: &Key) {
    tx.put(key.encode(), []);
}

/// Removes the row.
pub fn remove(tx: &mut Tx<'_>, key: &Key) {
    tx.delete(&key.encode());
}

/// Whether the row is there.
pub fn exists(rows: &impl Read, key: &Key) -> Result<bool, FatalError> {
    Ok(rows.get(&key.encode())?.is_some())
}

/// The counters; of an empty database: zeros.
pub fn counters(rows: &impl Read) -> Result<store::Counters, FatalError> {
    Ok(load(rows, &Key::Counters)?.unwrap_or_default())
}

/// At most `limit` rows of `from..to`, in order.
pub fn list<M: Message + Default>(
    rows: &impl Read,
    (from, to): (&[u8], &[u8]),
    limit: usize,
) -> Result<Vec<(Vec<u8>, M)>, FatalError> {
    let mut found: Vec<(Vec<u8>, M)> = Vec::new();
    let mut damaged = None;
    if limit == 0 {
        return Ok(found);
    }
    rows.scan(from, to, &mut |key, value| {
        match parse(key, value) {
            Ok(message) => found.push((key.to_vec(), message)),
            Err(e) => damaged = Some(e),
        }
        if damaged.is_some() || found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    damaged.map_or(Ok(found), Err)
}

/// At most `limit` keys of `from..to`, in order.
pub fn list_keys(rows: &impl Read, (from, to): (&[u8], &[u8]), limit: usize) -> Result<Vec<Key>, FatalError> {
    let mut found = Vec::new();
    let mut damaged = None;
    if limit == 0 {
        return Ok(found);
    }
    rows.scan(from, to, &mut |key, _| {
        match Key::decode(key) {
            Some(key) => found.push(key),
            None => damaged = Some(FatalError(format!("a key that cannot be read: {key:02x?}"))),
        }
        if damaged.is_some() || found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    damaged.map_or(Ok(found), Err)
}

fn parse<M: Message + Default>(key: &[u8], value: &[u8]) -> Result<M, FatalError> {
    M::decode(value).map_err(|e| FatalError(format!("row {:?} cannot be read: {e}", Key::decode(key))))
}
