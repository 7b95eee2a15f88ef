//! A stream becomes the data directory of a member that never ran.
//!
//! The directory's `format` says that it is being restored until everything is there: no process starts on a part. Then
//! `restored` says where the state is from; `bootstrap.rs` takes it from there at the member's first start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};

use super::{Checkpoint, Files, Position};
use crate::{
    database::{self, cf, state_cf},
    disk::{self, DataDir, io_error, sync_dir, write_atomically},
    error::{FatalError, OpenError},
    log_store::LogStore,
    state_store::{self, LiveRows, meta::StateMeta},
    view::{Overlay, Tx, View},
};

/// What `format` says meanwhile.
pub(crate) const RESTORING: &str = "conflux raft, being restored";

/// Where a restored state is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The federation.
    pub cluster: String,
    /// The group.
    pub group: String,
    /// Which backup.
    pub backup: String,
    /// When it was restored, in milliseconds since the Unix epoch.
    pub restored_ms: u64,
}

/// A restore under way. Dropped before [`Restoring::finish`], it removes what it has written.
pub struct Restoring {
    dir: DataDir,
    root: PathBuf,
    files: Option<Files>,
    made_root: bool,
    finished: bool,
}

fn refused(why: impl ToString) -> OpenError {
    OpenError::Refused(why.to_string())
}

impl Restoring {
    /// Refused unless the directory is empty or not there.
    pub fn begin(root: &Path) -> Result<Self, OpenError> {
        let made_root = !root.exists();
        fs::create_dir_all(root).map_err(|e| io_error("making", root, e))?;
        for found in fs::read_dir(root).map_err(|e| io_error("reading", root, e))? {
            let found = found.map_err(|e| io_error("reading", root, e))?;
            // Every ext4 file system has it.
            if found.file_name() != "lost+found" {
                let (at, what) = (root.display(), found.file_name());
                return Err(refused(format!(
                    "{at} holds {what:?}: a restore goes into an empty directory only. If this is the member to restore, \
                     and its data is worthless, remove {at} first"
                )));
            }
        }
        let mut restoring =
            Self { dir: DataDir::at(root), root: root.to_owned(), files: None, made_root, finished: false };
        restoring.prepare()?;
        Ok(restoring)
    }

    fn prepare(&mut self) -> Result<(), OpenError> {
        let (dir, root) = (&self.dir, &self.root);
        write_atomically(&dir.format(), RESTORING.as_bytes()).map_err(|e| io_error("writing", &dir.format(), e))?;
        for part in [dir.log(), dir.state(), dir.snapshots()] {
            fs::create_dir(&part).map_err(|e| io_error("making", &part, e))?;
        }
        sync_dir(root).map_err(|e| io_error("syncing", root, e))?;
        let files = Files::create(&dir.generation(1)).map_err(|e| io_error("making", &dir.generation(1), e))?;
        self.files = Some(files);
        Ok(())
    }

    /// Takes the next bytes of the packed checkpoint.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.files {
            Some(files) => files.write(bytes),
            None => Err(io::Error::other("the restore has failed")),
        }
    }

    /// Checks what has arrived against the backup's own words and with `check`, changes the rows that must differ in a
    /// restored state with `change`, and makes the directory one that a member can start on. Blocking.
    pub fn finish(
        mut self,
        sha256: [u8; 32],
        position: &Position,
        origin: &Origin,
        check: impl FnOnce(&View<'_>) -> Result<(), String>,
        change: impl FnOnce(&mut Tx<'_>) -> Result<(), FatalError>,
    ) -> Result<(), OpenError> {
        let state = self.dir.generation(1);
        let files = self.files.take().ok_or_else(|| refused("the restore has failed"))?;
        files.finish(sha256).map_err(refused)?;
        let checkpoint = Checkpoint::open(&state)?;
        if checkpoint.position() != *position {
            return Err(refused(format!(
                "the checkpoint is at {:?}, the backup says {position:?}: it was tampered with",
                checkpoint.position()
            )));
        }
        if position.index == 0 {
            return Err(refused("the backup is of a group in which nothing ever happened"));
        }
        checkpoint.view(check)?.map_err(refused)?;
        drop(checkpoint);
        change_rows(&state, origin, change)?;
        LogStore::create(&self.dir.log(), &self.dir.floor())?;
        state_store::point_to(&self.dir, 1).map_err(|e| io_error("writing", &self.dir.current_pointer(), e))?;
        self.dir.write_origin(origin).map_err(|e| io_error("writing", &self.root, e))?;
        self.dir.complete()?;
        self.finished = true;
        Ok(())
    }
}

fn change_rows(
    state: &Path,
    origin: &Origin,
    change: impl FnOnce(&mut Tx<'_>) -> Result<(), FatalError>,
) -> Result<(), FatalError> {
    let db = database::open_state(state, 8 << 20)?;
    let meta = StateMeta::load(&db)?;
    let (rows, nothing) = (LiveRows::new(&db)?, Overlay::new());
    let mut tx = Tx::new(&rows, &nothing);
    change(&mut tx)?;
    let family = cf(&db, state_cf::ROWS)?;
    let mut batch = WriteBatch::default();
    for (key, value) in tx.into_overlay() {
        match value {
            Some(value) => batch.put_cf(family, key, value),
            None => batch.delete_cf(family, key),
        }
    }
    meta.store_restored(&db, &mut batch, origin.restored_ms)?;
    db.write(batch)?;
    db.flush_wal(true)?;
    Ok(())
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.files.take();
        let clear = || -> io::Result<()> {
            if self.made_root {
                return disk::remove_dir(&self.root);
            }
            for part in [self.dir.log(), self.dir.state(), self.dir.snapshots()] {
                disk::remove_dir(&part)?;
            }
            // `format` last: until then no process starts on the rest.
            for file in [self.dir.floor(), self.dir.origin_file(), self.dir.format()] {
                match fs::remove_file(&file) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            sync_dir(&self.root)
        };
        if let Err(error) = clear() {
            tracing::warn!(%error, path = %self.root.display(), "a part of a restore stays: remove it");
        }
    }
}
