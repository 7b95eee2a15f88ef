//! What the simulation does to databases.

use std::{ops::Bound, path::Path};

use crate::image::{IMAGES, Rows};

/// The power of a machine goes: each database below `root` is set back to what was synced, and to as many of the later
/// writes, oldest first, as `kept` says when it is told how many there are. Returns how many writes were lost.
/// No database below `root` may be open.
pub fn power_loss(root: &Path, mut kept: impl FnMut(usize) -> usize) -> usize {
    let mut lost = 0;
    for image in IMAGES.lock().values() {
        let mut image = image.lock();
        if image.path.starts_with(root) {
            let there = image.unsynced();
            let stays = kept(there).min(there);
            lost += there - stays;
            image.lose(stays);
        }
    }
    lost
}

/// What a database holds at one moment.
#[derive(Clone)]
pub struct Contents(Vec<(String, Rows)>);

impl Contents {
    /// The rows of a column family, in order; empty where there is no such family.
    pub fn rows(&self, family: &str) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.range(family, &[], None)
    }

    /// Those from `from` to before `to`.
    pub fn range(
        &self,
        family: &str,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.0.iter().find(|(name, _)| name == family);
        let rows = found.map(|(_, rows)| rows.range::<_, [u8]>((Bound::Included(from), to)));
        rows.into_iter().flatten().map(|(key, value)| (&**key, &**value))
    }

    /// The value of a row.
    pub fn get(&self, family: &str, key: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| name == family).and_then(|(_, rows)| rows.get(key)).map(|value| &**value)
    }
}

/// What the database that was opened last in this directory holds now; none: there is none.
pub fn contents(path: &Path) -> Option<Contents> {
    let images = IMAGES.lock();
    let image = images.values().rev().find(|image| image.lock().path == path)?.lock();
    Some(Contents(image.names.iter().cloned().zip(image.rows.iter().cloned()).collect()))
}
