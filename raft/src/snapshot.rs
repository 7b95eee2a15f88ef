//! Snapshots: RocksDB checkpoints on this disk, and how they travel.
//!
//! A checkpoint links the files of the state database, so that taking one copies nothing and holds up nothing. It is
//! sent as one stream ([`pack`]) and received into a directory of its own ([`unpack`]); neither is ever in memory as a
//! whole.

pub(crate) mod pack;
pub(crate) mod unpack;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use self::{pack::Packer, unpack::Unpacker};
use crate::{
    database,
    disk::{self, sync_dir},
    error::FatalError,
    state_store::meta::StateMeta,
    types::SnapshotMeta,
};

/// The largest chunk that a [`SnapshotReader`] gives, in bytes.
pub const CHUNK_BYTES: usize = 1 << 20;

/// A snapshot on this disk. Clones share it; one that is no longer wanted is removed with the last of them.
#[derive(Clone)]
pub struct SnapshotHandle {
    dir: Arc<SnapshotDir>,
}

struct SnapshotDir {
    path: Mutex<PathBuf>,
    content: StateMeta,
    unwanted: AtomicBool,
}

impl fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot({})", self.dir.path.lock().display())
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        let path = self.path.get_mut();
        if *self.unwanted.get_mut()
            && let Err(error) = disk::remove_dir(path)
        {
            tracing::warn!(%error, path = %path.display(), "an old snapshot stays until the next start");
        }
    }
}

impl SnapshotHandle {
    /// Reads what is inside a checkpoint.
    pub(crate) fn open(path: PathBuf) -> Result<Self, FatalError> {
        let db = database::open_checkpoint(&path)?;
        let content = StateMeta::load(&db)?;
        drop(db);
        remove_traces(&path)?;
        let dir = SnapshotDir { path: Mutex::new(path), content, unwanted: AtomicBool::new(false) };
        Ok(Self { dir: Arc::new(dir) })
    }

    /// What openraft knows of it: from inside the checkpoint.
    pub fn meta(&self) -> SnapshotMeta {
        self.dir.content.snapshot_meta()
    }

    /// Everything that Raft keeps beside the rows.
    pub(crate) fn content(&self) -> &StateMeta {
        &self.dir.content
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path.lock().clone()
    }

    /// It is removed with its last handle.
    pub(crate) fn discard(&self) {
        self.dir.unwanted.store(true, Ordering::Release);
    }

    /// It stays, under a name that is not removed at the next start.
    pub(crate) fn keep(&self, snapshots: &Path) -> io::Result<()> {
        let mut path = self.dir.path.lock();
        let index = self.dir.content.last.as_ref().map_or(0, |id| id.index());
        let kept = snapshots.join(format!("{index}-{:016x}", rand::random::<u64>()));
        fs::rename(&*path, &kept)?;
        sync_dir(snapshots)?;
        *path = kept;
        self.dir.unwanted.store(false, Ordering::Release);
        Ok(())
    }

    /// Begins to read it as one stream.
    pub async fn pack(&self) -> io::Result<SnapshotReader> {
        let handle = self.clone();
        let packer = blocking(move || Packer::open(&handle.path())).await?;
        Ok(SnapshotReader { size: packer.size(), packer: Some(packer), _keep: self.clone() })
    }
}

/// A directory name for what is not complete yet.
pub(crate) fn incoming(snapshots: &Path) -> PathBuf {
    snapshots.join(format!("in-{:016x}", rand::random::<u64>()))
}

/// Looks for the newest snapshot, and removes every other directory.
pub(crate) fn find_newest(snapshots: &Path) -> io::Result<Option<SnapshotHandle>> {
    let mut newest: Option<SnapshotHandle> = None;
    for found in fs::read_dir(snapshots)? {
        let found = found?;
        if found.file_name().to_string_lossy().starts_with("in-") {
            disk::remove_dir(&found.path())?;
            continue;
        }
        match SnapshotHandle::open(found.path()) {
            Ok(handle) => {
                let newer = newest.as_ref().is_none_or(|newest| handle.meta().last_log_id > newest.meta().last_log_id);
                let old = if newer { newest.replace(handle) } else { Some(handle) };
                if let Some(old) = old {
                    old.discard();
                }
            }
            Err(error) => {
                // Another one is taken when it is needed.
                tracing::warn!(%error, "a snapshot cannot be read and is removed");
                disk::remove_dir(&found.path())?;
            }
        }
    }
    Ok(newest)
}

/// RocksDB leaves an information log where it reads.
fn remove_traces(path: &Path) -> Result<(), FatalError> {
    let traces = || -> io::Result<()> {
        for found in fs::read_dir(path)? {
            let found = found?;
            if !pack::is_part(&found.file_name().to_string_lossy()) {
                let _ = fs::remove_file(found.path());
            }
        }
        Ok(())
    };
    traces().map_err(|e| FatalError(format!("the snapshot {} cannot be listed: {e}", path.display())))
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    conflux_common::blocking::spawn_blocking(f).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// A snapshot as a stream of chunks.
pub struct SnapshotReader {
    packer: Option<Packer>,
    size: u64,
    // The files must not go while they are read.
    _keep: SnapshotHandle,
}

impl SnapshotReader {
    /// Bytes of the whole stream.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next chunk of at most [`CHUNK_BYTES`]; none: the end. After an error the reader is of no more use.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut packer = self.packer.take().ok_or_else(|| io::Error::other("the reader has failed"))?;
        let (packer, chunk) = blocking(move || {
            let chunk = packer.next_chunk(CHUNK_BYTES)?;
            Ok((packer, chunk))
        })
        .await?;
        self.packer = Some(packer);
        Ok(chunk)
    }

    /// SHA-256 over all chunks; only after the end.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.packer.as_ref().and_then(Packer::sha256)
    }
}

/// Takes the stream of a [`SnapshotReader`] and makes a snapshot of it. Dropped before [`SnapshotWriter::finish`], it
/// leaves nothing.
pub struct SnapshotWriter {
    unpacker: Option<Unpacker>,
    path: PathBuf,
    finished: bool,
}

impl SnapshotWriter {
    pub(crate) async fn begin(snapshots: PathBuf) -> io::Result<Self> {
        let path = incoming(&snapshots);
        let made = path.clone();
        let unpacker = blocking(move || Unpacker::create(&made)).await?;
        Ok(Self { unpacker: Some(unpacker), path, finished: false })
    }

    /// Takes the next chunk.
    pub async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        let mut unpacker = self.unpacker.take().ok_or_else(|| io::Error::other("the writer has failed"))?;
        let unpacker = blocking(move || {
            unpacker.write(&chunk)?;
            Ok(unpacker)
        })
        .await?;
        self.unpacker = Some(unpacker);
        Ok(())
    }

    /// Checks the sums, syncs all files, and compares what is inside with `meta`. The snapshot is removed again unless it
    /// is installed.
    pub async fn finish(mut self, meta: &SnapshotMeta, sha256: Option<[u8; 32]>) -> io::Result<SnapshotHandle> {
        let unpacker = self.unpacker.take().ok_or_else(|| io::Error::other("the writer has failed"))?;
        let path = self.path.clone();
        let handle = blocking(move || {
            unpacker.finish(sha256)?;
            SnapshotHandle::open(path).map_err(invalid)
        })
        .await?;
        if handle.meta() != *meta {
            return Err(invalid(format!("the snapshot holds {:?}, but was sent as {meta:?}", handle.meta())));
        }
        handle.discard();
        self.finished = true;
        Ok(handle)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        self.unpacker.take();
        if !self.finished
            && let Err(error) = disk::remove_dir(&self.path)
        {
            tracing::warn!(%error, "a part of a snapshot stays until the next start");
        }
    }
}

fn invalid(e: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e.to_string())
}
