//! The rows of the state database: typed reading and writing, one file a family. [`keys`] is the page to read first.

pub mod audit;
pub mod config;
pub mod content;
pub mod draft;
pub mod event;
pub mod idempotency;
pub mod keys;
pub mod leftover;
pub mod promotion;
pub mod scope;
pub mod tenant;
pub mod touched;
pub mod version;

use std::ops::ControlFlow;

use bytes::Buf;
use conflux_raft::{FatalError, Read, Tx};
use keys::Key;
use prost::Message;

/// Reads the message under this key. A row that cannot be read is fatal: the state is damaged or of a newer version.
fn read<M: Message + Default>(rows: &dyn Read, key: &Key<'_>) -> Result<Option<M>, FatalError> {
    rows.get(&key.encode())?.map(|value| parse(key, value.as_slice())).transpose()
}

fn parse<M: Message + Default>(key: &Key<'_>, value: impl Buf) -> Result<M, FatalError> {
    M::decode(value).map_err(|e| FatalError(format!("the row {key:?} cannot be read: {e}; restore this member")))
}

fn write(tx: &mut Tx<'_>, key: &Key<'_>, message: &impl Message) {
    tx.put(key.encode(), message.encode_to_vec());
}

/// The same of a row whose key is of a number that only grows.
fn write_new(tx: &mut Tx<'_>, key: &Key<'_>, message: &impl Message) {
    tx.put_new(key.encode(), message.encode_to_vec());
}

/// Reads what a scan visits as key and value; a key that is none of ours is fatal.
fn visit<'k>(
    found: &mut Result<(), FatalError>,
    key: &'k [u8],
    each: impl FnOnce(Key<'k>) -> Result<ControlFlow<()>, FatalError>,
) -> ControlFlow<()> {
    let outcome = Key::decode(key).map_err(|e| FatalError(e.to_string())).and_then(each);
    match outcome {
        Ok(flow) => flow,
        Err(e) => {
            *found = Err(e);
            ControlFlow::Break(())
        }
    }
}

/// Scans `from..to` (forward or backward), reading each key; what `each` answers goes on or ends the scan.
pub(crate) fn scan(
    rows: &dyn Read,
    (from, to): (Vec<u8>, Vec<u8>),
    forward: bool,
    mut each: impl FnMut(Key<'_>, &[u8]) -> Result<ControlFlow<()>, FatalError>,
) -> Result<(), FatalError> {
    let mut found = Ok(());
    let mut step = |key: &[u8], value: &[u8]| visit(&mut found, key, |key| each(key, value));
    if forward {
        rows.scan(&from, &to, &mut step)?
    } else {
        rows.scan_back(&from, &to, &mut step)?
    }
    found
}

/// The first key after this one.
pub(crate) fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}
