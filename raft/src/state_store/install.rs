//! A snapshot becomes the next generation of the state. The log is not touched.
//!
//! The files are linked into a new directory, which is opened, checked and synced before the pointer names it: a
//! process that dies at any step finds the old generation or the new one, whole.

use std::{fs, io, path::Path, sync::Arc, sync::atomic::Ordering};

use super::{
    Current, Shared, check_level,
    generation::Generation,
    machine::{failed, sync_files},
    meta::StateMeta,
    point_to,
};
use crate::{
    app::App,
    disk::{self, sync_dir},
    error::FatalError,
    snapshot::SnapshotHandle,
    view::View,
};

impl<A: App> Shared<A> {
    /// Replaces the state. An older snapshot, or one of the same index, changes nothing: the state holds it already.
    pub(super) fn install(&self, snapshot: SnapshotHandle) -> Result<(), FatalError> {
        self.fatal.check()?;
        let Current { generation: old, meta: before } = self.current.read().clone();
        let content = snapshot.content();
        if content.last <= before.last {
            tracing::warn!(?snapshot, applied = before.applied_index(), "a snapshot older than the state is left out");
            return Ok(());
        }
        check_level::<A>(content).map_err(FatalError)?;
        let number = old.number + 1;
        self.link(&snapshot.path(), number).map_err(|e| failed("a snapshot", &e))?;
        let (generation, meta) = self.open_next(number, content)?;
        point_to(&self.dir, number).map_err(|e| failed("the pointer to the state", &e))?;

        let meta = Arc::new(meta);
        let generation = Arc::new(generation);
        *self.current.write() = Current { generation: generation.clone(), meta: meta.clone() };
        // At once: whoever reads from here on sees the new rows.
        generation.view(|view: &View<'_>| self.app.replaced(view))?;
        old.supersede();
        self.synced.store(meta.next_index(), Ordering::Release);
        snapshot.keep(&self.dir.snapshots()).map_err(|e| failed("a snapshot", &e))?;
        self.keep_newest(snapshot);
        self.applied.send_replace(meta.applied_index());
        Ok(())
    }

    /// Links or copies the files into a directory of their own, synced. RocksDB never changes data files, so the snapshot and
    /// the generation share them; the others are small and copied.
    fn link(&self, from: &Path, number: u64) -> io::Result<()> {
        let (state, to) = (self.dir.state(), self.dir.generation(number));
        let beside = state.join(format!("in-{number}"));
        disk::remove_dir(&beside)?;
        disk::remove_dir(&to)?;
        fs::create_dir(&beside)?;
        for found in fs::read_dir(from)? {
            let found = found?;
            let (path, into) = (found.path(), beside.join(found.file_name()));
            let data = path.extension().is_some_and(|kind| kind == "sst" || kind == "blob");
            if !data || fs::hard_link(&path, &into).is_err() {
                fs::copy(&path, &into)?;
            }
        }
        sync_files(&beside)?;
        fs::rename(&beside, &to)?;
        sync_dir(&state)
    }

    fn open_next(&self, number: u64, content: &StateMeta) -> Result<(Generation, StateMeta), FatalError> {
        let generation = Generation::open(&self.dir, number, self.cache_bytes)?;
        let mut meta = StateMeta::load(generation.db())?;
        if meta != *content {
            return Err(FatalError("a snapshot changed while it was installed".into()));
        }
        StateMeta::store_base(generation.db(), meta.applied_index())?;
        generation.db().flush_wal(true)?;
        meta.base = Some(meta.applied_index());
        Ok((generation, meta))
    }
}
