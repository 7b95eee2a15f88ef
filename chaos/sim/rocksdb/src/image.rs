//! What a database holds, and what of it would survive a power cut. Every image of this process is known here by number.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use imbl::OrdMap;
use parking_lot::Mutex;

use crate::batch::WriteBatch;

/// The rows of a column family. A clone is a snapshot: it shares the tree.
pub(crate) type Rows = OrdMap<Arc<[u8]>, Arc<[u8]>>;

/// One database.
pub(crate) struct Image {
    /// Where it was opened last.
    pub(crate) path: PathBuf,
    /// The names of the column families, in the order of `rows`.
    pub(crate) names: Vec<String>,
    /// What is read.
    pub(crate) rows: Vec<Rows>,
    /// What was synced.
    durable: Vec<Rows>,
    /// What was written since.
    unsynced: Vec<WriteBatch>,
}

impl Image {
    pub(crate) fn new(path: &Path, names: Vec<String>, rows: Vec<Rows>) -> Self {
        Self { path: path.to_owned(), names, durable: rows.clone(), rows, unsynced: Vec::new() }
    }

    pub(crate) fn write(&mut self, batch: WriteBatch) {
        batch.apply(&mut self.rows);
        self.unsynced.push(batch);
    }

    pub(crate) fn sync(&mut self) {
        self.durable.clone_from(&self.rows);
        self.unsynced.clear();
    }

    /// Of what was not synced only the first `kept` batches are left.
    pub(crate) fn lose(&mut self, kept: usize) {
        for batch in self.unsynced.drain(..).take(kept) {
            batch.apply(&mut self.durable);
        }
        self.rows.clone_from(&self.durable);
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }
}

/// An image that databases share.
pub(crate) type Shared = Arc<Mutex<Image>>;

/// All images, by number.
pub(crate) static IMAGES: Mutex<BTreeMap<u64, Shared>> = Mutex::new(BTreeMap::new());

/// Keeps a new image; gives its number.
pub(crate) fn keep(image: Image) -> (u64, Shared) {
    let mut images = IMAGES.lock();
    let number = images.last_key_value().map_or(1, |(number, _)| number + 1);
    let image = Arc::new(Mutex::new(image));
    images.insert(number, image.clone());
    (number, image)
}

/// The image of this number.
pub(crate) fn find(number: u64) -> Option<Shared> {
    IMAGES.lock().get(&number).cloned()
}
