//! One database of the state, and reading it. Installing a snapshot makes the next one; this one goes with its last reader.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use rocksdb::{ColumnFamily, DB, DBRawIterator, ReadOptions, Snapshot};

use crate::{
    database::{self, cf, state_cf},
    disk::{self, DataDir},
    error::FatalError,
    view::{Direction, Rows, View, Visit},
};

pub(super) struct Generation {
    /// None only while it is dropped.
    db: Option<DB>,
    path: PathBuf,
    pub(super) number: u64,
    superseded: AtomicBool,
}

impl Generation {
    pub(super) fn open(dir: &DataDir, number: u64, cache_bytes: usize) -> Result<Self, FatalError> {
        let path = dir.generation(number);
        let db = database::open_state(&path, cache_bytes)?;
        Ok(Self { db: Some(db), path, number, superseded: AtomicBool::new(false) })
    }

    #[allow(clippy::expect_used)]
    pub(super) fn db(&self) -> &DB {
        // Only `drop` takes it.
        self.db.as_ref().expect("an open generation has its database")
    }

    /// Its files go with its last reader.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub(super) fn view<R>(&self, f: impl FnOnce(&View<'_>) -> R) -> Result<R, FatalError> {
        let db = self.db();
        Ok(f(&View::new(&SnapshotRows::new(db, cf(db, state_cf::ROWS)?))))
    }

    /// About how many bytes its files have.
    pub(super) fn bytes(&self) -> Result<u64, FatalError> {
        let rows = cf(self.db(), state_cf::ROWS)?;
        let mut bytes = 0;
        for property in
            ["rocksdb.total-sst-files-size", "rocksdb.total-blob-file-size", "rocksdb.cur-size-all-mem-tables"]
        {
            bytes += self.db().property_int_value_cf(rows, property)?.unwrap_or(0);
        }
        Ok(bytes)
    }
}

/// Column families of a state, which a checkpoint flushes.
const FAMILIES: [&str; 2] = [state_cf::ROWS, state_cf::META];

impl Generation {
    /// Bytes that are in memory and not in files yet.
    pub(super) fn unflushed(&self) -> Result<u64, FatalError> {
        let of = |name: &&str| {
            let family = cf(self.db(), name)?;
            Ok(self.db().property_int_value_cf(family, "rocksdb.cur-size-all-mem-tables")?.unwrap_or(0))
        };
        FAMILIES.iter().map(of).sum()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let (db, path) = (self.db.take(), std::mem::take(&mut self.path));
        if !*self.superseded.get_mut() {
            return drop(db);
        }
        // The last reader may be on a thread of the runtime; closing waits for compactions.
        let close = move || {
            drop(db);
            if let Err(error) = disk::remove_dir(&path) {
                tracing::warn!(%error, path = %path.display(), "an old state stays until the next start");
            }
        };
        if cfg!(feature = "simulation") {
            return close();
        }
        if let Err(error) = std::thread::Builder::new().name("raft-old-state".into()).spawn(close) {
            tracing::warn!(%error, "an old state stays until the next start");
        }
    }
}

/// Rows as they are now; for apply, which is the only writer, and for checkpoints, which nobody writes.
pub(crate) struct LiveRows<'a> {
    db: &'a DB,
    rows: &'a ColumnFamily,
    options: ReadOptions,
}

impl<'a> LiveRows<'a> {
    pub(crate) fn new(db: &'a DB) -> Result<Self, FatalError> {
        Ok(Self { db, rows: cf(db, state_cf::ROWS)?, options: ReadOptions::default() })
    }
}

impl Rows for LiveRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        Ok(self.db.get_cf_opt(self.rows, key, &self.options)?)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> Result<(), FatalError> {
        walk(self.db.raw_iterator_cf_opt(self.rows, range(from, to)), direction, visit)
    }
}

struct SnapshotRows<'a> {
    db: &'a DB,
    rows: &'a ColumnFamily,
    /// Name the snapshot, so that they go before it: fields go in their order.
    options: ReadOptions,
    snapshot: Snapshot<'a>,
}

impl<'a> SnapshotRows<'a> {
    fn new(db: &'a DB, rows: &'a ColumnFamily) -> Self {
        let (snapshot, mut options) = (db.snapshot(), ReadOptions::default());
        options.set_snapshot(&snapshot);
        Self { db, rows, options, snapshot }
    }
}

impl Rows for SnapshotRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, FatalError> {
        Ok(self.db.get_cf_opt(self.rows, key, &self.options)?)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: &mut Visit<'_>) -> Result<(), FatalError> {
        walk(self.snapshot.raw_iterator_cf_opt(self.rows, range(from, to)), direction, visit)
    }
}

fn range(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

fn walk(mut rows: DBRawIterator<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), FatalError> {
    match direction {
        Direction::Forward => rows.seek_to_first(),
        Direction::Back => rows.seek_to_last(),
    }
    while let Some((key, value)) = rows.item() {
        if visit(key, value).is_break() {
            return Ok(());
        }
        match direction {
            Direction::Forward => rows.next(),
            Direction::Back => rows.prev(),
        }
    }
    Ok(rows.status()?)
}
