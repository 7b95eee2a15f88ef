//! Compiled schemas, by their text: a config is put again and again under the same one.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{Schema, SchemaError};

/// Schemas that are kept. With the bounds of each this is some tens of MiB at most.
const KEPT: usize = 32;

type Kept = VecDeque<([u8; 32], Arc<Schema>)>;

static CACHE: Mutex<Kept> = Mutex::new(VecDeque::new());

/// The compiled schema; from the cache where it is there. One that is wrong is not kept.
pub(super) fn compiled(text: &str) -> Result<Arc<Schema>, SchemaError> {
    let hash: [u8; 32] = Sha256::digest(text).into();
    if let Some(found) = touch(&mut CACHE.lock(), &hash) {
        return Ok(found);
    }
    // Not under the lock: two that compile the same at once do no harm.
    let schema = Arc::new(Schema::compile(text)?);
    let mut kept = CACHE.lock();
    if touch(&mut kept, &hash).is_none() {
        kept.push_front((hash, schema.clone()));
        kept.truncate(KEPT);
    }
    Ok(schema)
}

/// The schema, which then is the last to go.
fn touch(kept: &mut Kept, hash: &[u8; 32]) -> Option<Arc<Schema>> {
    let place = kept.iter().position(|(known, _)| known == hash)?;
    let found = kept.remove(place)?;
    let schema = found.1.clone();
    kept.push_front(found);
    Some(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each of 32 compiled schemas may take megabytes: they must not pile up.
    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let used = compiled("a: string\nused: integer").unwrap();
        for i in 0..200 {
            compiled(&format!("k{i}: string")).unwrap();
            assert!(Arc::ptr_eq(&used, &compiled("a: string\nused: integer").unwrap()), "{i}");
        }
        assert!(CACHE.lock().len() <= KEPT);
    }
}
