//! Contents: one copy for each content of a tenant, with a count of the versions and drafts that have it.

use bytes::Bytes;
use conflux_proto::store;
use conflux_raft::{FatalError, Read, Tx};

use super::{keys::Key, parse, read, write};

/// The content with this hash.
pub fn get(rows: &dyn Read, tenant: u64, sha256: &[u8]) -> Result<Option<Bytes>, FatalError> {
    let key = Key::Content { tenant, sha256: hash(sha256)? };
    // Out of bytes that it can keep: what is parsed of a slice is copied.
    let row = rows.get(&key.encode())?.map(|value| parse::<store::Content>(&key, Bytes::from(value))).transpose()?;
    Ok(row.map(|r| r.data))
}

/// How many versions and drafts have it.
pub fn references(rows: &dyn Read, tenant: u64, sha256: &[u8]) -> Result<u64, FatalError> {
    let row: Option<store::ContentReferences> = read(rows, &Key::ContentReferences { tenant, sha256: hash(sha256)? })?;
    Ok(row.map_or(0, |r| r.count))
}

/// Counts one version or draft more, and stores the content if it is the first. The tenant's `content_bytes` follow; its row is the
/// caller's to write.
pub fn acquire(tx: &mut Tx<'_>, owner: &mut store::Tenant, sha256: &[u8], data: &Bytes) -> Result<(), FatalError> {
    let tenant = owner.id;
    let count = references(tx, tenant, sha256)?;
    let sha256 = hash(sha256)?;
    if count == 0 {
        write(tx, &Key::Content { tenant, sha256 }, &store::Content { data: data.clone(), references: 0 });
        owner.content_bytes += data.len() as u64;
    }
    write(tx, &Key::ContentReferences { tenant, sha256 }, &store::ContentReferences { count: count + 1 });
    Ok(())
}

/// Counts one version or draft less, and removes the content with the last. `size` is the content's. The tenant's row is the
/// caller's to write.
pub fn release(tx: &mut Tx<'_>, owner: &mut store::Tenant, sha256: &[u8], size: u64) -> Result<(), FatalError> {
    let tenant = owner.id;
    let count = references(tx, tenant, sha256)?;
    let sha256 = hash(sha256)?;
    let key = Key::ContentReferences { tenant, sha256 };
    match count {
        0 => return Err(FatalError(format!("no reference to release: {key:?}"))),
        1 => {
            tx.delete(&key.encode());
            tx.delete(&Key::Content { tenant, sha256 }.encode());
            let less = owner.content_bytes.checked_sub(size);
            owner.content_bytes = less.ok_or_else(|| FatalError("more bytes released than were counted".into()))?;
        }
        count => write(tx, &key, &store::ContentReferences { count: count - 1 }),
    }
    Ok(())
}

fn hash(sha256: &[u8]) -> Result<[u8; 32], FatalError> {
    sha256.try_into().map_err(|_| FatalError(format!("a SHA-256 of {} bytes", sha256.len())))
}
