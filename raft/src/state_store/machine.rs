//! openraft's [`RaftStateMachine`]. Applying, installing and building run on threads for blocking work, never on those of
//! the runtime.

use std::{io, sync::Arc};

use futures::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use rocksdb::checkpoint::Checkpoint;

use super::Shared;
use crate::{
    app::App,
    disk::sync_dir,
    error::FatalError,
    snapshot::{self, SnapshotHandle},
    types::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};

/// A batch ends with the entry that reaches one of these.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 4 << 20;

/// What openraft drives. A clone is for an openraft that is started after another one has ended: one at a time applies.
pub struct StateMachine<A: App> {
    shared: Arc<Shared<A>>,
}

impl<A: App> Clone for StateMachine<A> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl<A: App> StateMachine<A> {
    pub(super) fn new(shared: Arc<Shared<A>>) -> Self {
        Self { shared }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        f: impl FnOnce(&Shared<A>) -> Result<T, FatalError> + Send + 'static,
    ) -> io::Result<T> {
        let shared = self.shared.clone();
        let done = conflux_common::blocking::spawn_blocking(move || f(&shared)).await;
        done.unwrap_or_else(|e| Err(FatalError(format!("{what} panicked: {e}")))).map_err(|e| self.shared.fatal.io(e))
    }

    /// Commits a batch, then answers: what was answered is never lost by this process.
    async fn apply_batch(&self, batch: Batch) -> io::Result<()> {
        let Batch { entries, responders, .. } = batch;
        let Some(last) = entries.last().map(|entry| entry.log_id.index()) else { return Ok(()) };
        if let Some(log) = &self.shared.log {
            log.wait(last, &self.shared.fatal).await.map_err(|e| self.shared.fatal.io(e))?;
        }
        let answers = self.blocking("apply", move |shared| shared.apply(&entries)).await?;
        for (responder, answer) in responders.into_iter().zip(answers) {
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, (entry, responder): EntryResponder<TypeConfig>) {
        if let EntryPayload::Normal(command) = &entry.payload {
            self.bytes += command.size();
        }
        self.entries.push(entry);
        self.responders.push(responder);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES
    }
}

impl<A: App> RaftStateMachine<TypeConfig> for StateMachine<A> {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotBuilder<A>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = self.shared.meta();
        Ok((meta.last, meta.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(next) = entries.try_next().await? {
            batch.push(next);
            if batch.is_full() {
                self.apply_batch(std::mem::take(&mut batch)).await?;
            }
        }
        self.apply_batch(batch).await
    }

    /// None where the disk has no room for one: openraft goes on without it, and asks again.
    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder<A>> {
        match self.shared.check_room() {
            Ok(()) => Some(self.get_snapshot_builder().await),
            Err(why) => {
                tracing::warn!(%why, "no snapshot is taken");
                None
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<A> {
        SnapshotBuilder { machine: self.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotHandle) -> Result<(), io::Error> {
        if snapshot.meta() != *meta {
            let error = format!("a snapshot of {:?} was given as {meta:?}", snapshot.meta());
            return Err(self.shared.fatal.io(FatalError(error)));
        }
        self.blocking("installing a snapshot", move |shared| shared.install(snapshot)).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let current = self.shared.snapshot.lock().clone();
        Ok(current.map(|snapshot| Snapshot { meta: snapshot.meta(), snapshot }))
    }
}

/// Takes checkpoints while entries go on being applied.
pub struct SnapshotBuilder<A: App> {
    machine: StateMachine<A>,
}

impl<A: App> RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder<A> {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let snapshot = self.machine.blocking("taking a snapshot", Shared::take_snapshot).await?;
        Ok(Snapshot { meta: snapshot.meta(), snapshot })
    }
}

/// Beside what a flush writes: the checkpoint's own files, and what the log takes meanwhile.
const SNAPSHOT_SPARE: u64 = 8 << 20;

impl<A: App> Shared<A> {
    /// Says what is missing where the disk has no room for a snapshot. One that fails half-way would end the member, though it can
    /// go on without: only the log grows.
    pub(super) fn check_room(&self) -> Result<(), String> {
        let generation = self.current.read().generation.clone();
        let wanted = generation.unflushed().map_err(|e| e.to_string())? + SNAPSHOT_SPARE;
        let free = self.dir.free().map_err(|e| format!("cannot tell how full the disk is: {e}"))?.bytes;
        if free >= wanted {
            return Ok(());
        }
        Err(format!("a snapshot needs {wanted} bytes of the disk, and {free} are free"))
    }

    /// A checkpoint: flushes what is in memory, then links files. What it holds is read from inside it.
    fn take_snapshot(&self) -> Result<SnapshotHandle, FatalError> {
        let (handle, snapshots) = (self.checkpoint()?, self.dir.snapshots());
        let path = handle.path();
        sync_files(&path).and_then(|()| handle.keep(&snapshots)).map_err(|e| failed("a snapshot", &e))?;
        self.keep_newest(handle.clone());
        Ok(handle)
    }

    /// The same without keeping it: it goes with its last handle.
    pub(super) fn checkpoint(&self) -> Result<SnapshotHandle, FatalError> {
        let generation = self.current.read().generation.clone();
        // The entries that a snapshot covers may be purged, so the state must have them on disk.
        self.sync()?;
        let path = snapshot::incoming(&self.dir.snapshots());
        Checkpoint::new(generation.db())?.create_checkpoint(&path)?;
        let handle = SnapshotHandle::open(path)?;
        handle.discard();
        Ok(handle)
    }

    /// Makes it the snapshot that is sent, unless there is a newer one.
    pub(super) fn keep_newest(&self, handle: SnapshotHandle) {
        let mut current = self.snapshot.lock();
        let newer = current.as_ref().is_some_and(|current| current.meta().last_log_id > handle.meta().last_log_id);
        let old = if newer { Some(handle) } else { current.replace(handle) };
        if let Some(old) = old {
            old.discard();
        }
    }
}

pub(super) fn failed(what: &str, e: &io::Error) -> FatalError {
    FatalError(format!("{what} cannot be stored: {e}"))
}

/// Syncs every file of a directory, and their names.
pub(super) fn sync_files(path: &std::path::Path) -> io::Result<()> {
    for found in std::fs::read_dir(path)? {
        std::fs::File::open(found?.path())?.sync_all()?;
    }
    sync_dir(path)
}
