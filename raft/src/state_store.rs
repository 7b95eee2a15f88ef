//! The state on RocksDB: the application's rows, and what Raft keeps beside them.
//!
//! **The sync policy of the state.** A batch is written to the write-ahead log and not synced: after a power cut the Raft
//! log replays what is missing. Before a snapshot is reported and before entries are purged the state is synced, so that
//! a purge never passes what the state has on disk. A batch is written only after the entries of it are synced in the
//! log here, so that the state is never ahead of the log.
//!
//! | file | holds |
//! |---|---|
//! | `meta.rs` | last applied, membership, level, group time, admitted members |
//! | `generation.rs` | one database and reading it |
//! | `apply.rs` | commands to rows, one batch at a time |
//! | `machine.rs` | openraft's interface |
//! | `refound.rs` | a restored state becomes that of a new group |
//! | `install.rs` | a snapshot becomes the next generation |

mod apply;
mod generation;
mod install;
mod machine;
pub(crate) mod meta;
mod refound;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub(crate) use self::generation::LiveRows;
pub use self::machine::StateMachine;
pub use self::meta::Admission;
use self::{generation::Generation, meta::StateMeta};
use crate::{
    app::App,
    database,
    disk::{self, DataDir, io_error, write_atomically},
    error::{FatalError, OpenError},
    fatal::Fatal,
    log_store::Durable,
    snapshot::{self, SnapshotHandle, SnapshotWriter},
    types::{Entry, LogId},
    view::View,
};

/// Reads of the state, and what the node needs to know of it. Clones share one.
pub struct StateHandle<A: App> {
    shared: Arc<Shared<A>>,
}

impl<A: App> Clone for StateHandle<A> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<A: App> {
    app: Arc<A>,
    dir: Arc<DataDir>,
    cache_bytes: usize,
    /// The database in use, with what is in it. Replaced by an install; readers keep the old one until they are done.
    current: RwLock<Current>,
    applied: watch::Sender<u64>,
    /// The index after the last one that the state has on disk.
    synced: AtomicU64,
    snapshot: Mutex<Option<SnapshotHandle>>,
    log: Option<Arc<Durable>>,
    fatal: Fatal,
}

#[derive(Clone)]
struct Current {
    generation: Arc<Generation>,
    meta: Arc<StateMeta>,
}

impl<A: App> StateHandle<A> {
    /// Makes an empty first generation.
    pub(crate) fn create(dir: &DataDir) -> Result<(), OpenError> {
        let db = database::open_state(&dir.generation(1), 8 << 20)?;
        db.flush_wal(true).map_err(FatalError::from)?;
        drop(db);
        point_to(dir, 1).map_err(|e| io_error("writing", &dir.current_pointer(), e))
    }

    /// Opens the present generation and removes what an earlier process left.
    pub(crate) fn open(
        app: Arc<A>,
        dir: Arc<DataDir>,
        cache_bytes: usize,
        log: Option<Arc<Durable>>,
        fatal: Fatal,
    ) -> Result<Self, OpenError> {
        let number = pointed_to(&dir)?;
        clear_others(&dir, number).map_err(|e| io_error("clearing", &dir.state(), e))?;
        let generation = Arc::new(Generation::open(&dir, number, cache_bytes)?);
        let meta = Arc::new(StateMeta::load(generation.db())?);
        check_level::<A>(&meta).map_err(OpenError::Refused)?;
        let snapshot = snapshot::find_newest(&dir.snapshots()).map_err(|e| io_error("reading", &dir.snapshots(), e))?;
        // What was replayed from the write-ahead log at this open is in files by now.
        let next = meta.next_index();
        let shared = Shared {
            app,
            dir,
            cache_bytes,
            applied: watch::Sender::new(meta.applied_index()),
            current: RwLock::new(Current { generation, meta }),
            synced: AtomicU64::new(next),
            snapshot: Mutex::new(snapshot),
            log,
            fatal,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads the rows at one moment. Blocking.
    pub fn view<R>(&self, f: impl FnOnce(&View<'_>) -> R) -> Result<R, FatalError> {
        self.shared.view(f)
    }

    /// The last applied index, and each change of it; 0: none.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// The last applied entry.
    pub fn last_applied(&self) -> Option<LogId> {
        self.shared.meta().last
    }

    /// The index at which the state was installed by a snapshot, if it was: the log below need not be there.
    pub(crate) fn base_index(&self) -> Option<u64> {
        self.shared.meta().base
    }

    /// The replicated level; at least 1.
    pub fn level(&self) -> u32 {
        self.shared.meta().level
    }

    /// Group time of the last applied command, in milliseconds since the Unix epoch.
    pub fn stamp_ms(&self) -> u64 {
        self.shared.meta().stamp_ms
    }

    /// The latest admission of this member; later ones replace earlier ones.
    pub fn admitted(&self, member: &str) -> Result<Option<Admission>, FatalError> {
        let generation = self.shared.current.read().generation.clone();
        meta::admission(generation.db(), member)
    }

    /// The index of the newest snapshot on this disk; 0: none.
    #[cfg(test)]
    pub fn snapshot_index(&self) -> u64 {
        self.shared.snapshot.lock().clone().and_then(|snapshot| snapshot.meta().last_log_id).map_or(0, |id| id.index())
    }

    /// Bytes of the state's files, about.
    pub fn bytes(&self) -> Result<u64, FatalError> {
        let generation = self.shared.current.read().generation.clone();
        generation.bytes()
    }

    /// Says what is missing where the disk has no room for a snapshot.
    pub(crate) fn check_room(&self) -> Result<(), String> {
        self.shared.check_room()
    }

    /// Makes everything applied so far durable.
    pub async fn sync(&self) -> Result<(), FatalError> {
        let shared = self.shared.clone();
        let synced = conflux_common::blocking::spawn_blocking(move || shared.sync()).await;
        synced.unwrap_or_else(|e| Err(FatalError(format!("syncing the state panicked: {e}"))))
    }

    /// Makes the state durable up to this index, unless it is. Blocking.
    pub(crate) fn sync_to(&self, index: u64) -> Result<(), FatalError> {
        if self.shared.synced.load(Ordering::Acquire) > index { Ok(()) } else { self.shared.sync() }
    }

    #[cfg(test)]
    pub(crate) fn synced_index(&self) -> Option<u64> {
        self.shared.synced.load(Ordering::Acquire).checked_sub(1)
    }

    /// A checkpoint of this moment that nothing else knows of: its files go with the last handle.
    pub(crate) async fn checkpoint(&self) -> Result<SnapshotHandle, FatalError> {
        let shared = self.shared.clone();
        let made = conflux_common::blocking::spawn_blocking(move || shared.checkpoint()).await;
        made.unwrap_or_else(|e| Err(FatalError(format!("taking a checkpoint panicked: {e}"))))
    }

    /// Applies entries without openraft, for a directory whose member does not run. Blocking.
    pub(crate) fn apply_offline(&self, entries: &[Entry]) -> Result<(), FatalError> {
        self.shared.apply(entries).map(drop)
    }

    /// When this state was restored, in milliseconds since the Unix epoch; 0: never.
    pub(crate) fn restored_ms(&self) -> u64 {
        self.shared.meta().restored_ms
    }

    /// Begins to take a snapshot that another member sends.
    pub async fn receive_snapshot(&self) -> io::Result<SnapshotWriter> {
        SnapshotWriter::begin(self.shared.dir.snapshots()).await
    }

    /// The machine that openraft drives. There must be only one.
    pub(crate) fn machine(&self) -> StateMachine<A> {
        StateMachine::new(self.shared.clone())
    }
}

impl<A: App> Shared<A> {
    fn meta(&self) -> Arc<StateMeta> {
        self.current.read().meta.clone()
    }

    fn view<R>(&self, f: impl FnOnce(&View<'_>) -> R) -> Result<R, FatalError> {
        let generation = self.current.read().generation.clone();
        generation.view(f).map_err(|e| self.fatal.report(e))
    }

    fn sync(&self) -> Result<(), FatalError> {
        let Current { generation, meta } = self.current.read().clone();
        generation
            .db()
            .flush_wal(true)
            .map_err(|e| self.fatal.report(FatalError(format!("the state cannot be synced: {e}"))))?;
        self.synced.fetch_max(meta.next_index(), Ordering::AcqRel);
        Ok(())
    }
}

/// What this binary cannot apply it must not try to apply.
fn check_level<A: App>(meta: &StateMeta) -> Result<(), String> {
    if meta.level <= A::LEVEL {
        return Ok(());
    }
    Err(format!(
        "the group works at level {}, this binary knows {}: start a newer binary on this member",
        meta.level,
        A::LEVEL
    ))
}

/// Names the generation in use.
pub(crate) fn point_to(dir: &DataDir, number: u64) -> io::Result<()> {
    write_atomically(&dir.current_pointer(), format!("{number}\n").as_bytes())
}

fn pointed_to(dir: &DataDir) -> Result<u64, OpenError> {
    let pointer = dir.current_pointer();
    let text = fs::read_to_string(&pointer).map_err(|e| io_error("reading", &pointer, e))?;
    let number = text.trim().parse().ok().filter(|number| dir.generation(*number).join("CURRENT").exists());
    number.ok_or_else(|| {
        OpenError::Refused(format!(
            "{} names {:?}, which is not there: the state was lost. Remove this member's data directory and let the \
             group admit it anew",
            pointer.display(),
            text.trim()
        ))
    })
}

fn clear_others(dir: &DataDir, number: u64) -> io::Result<()> {
    for found in fs::read_dir(dir.state())? {
        let found = found?;
        if found.file_type()?.is_dir() && found.file_name().to_string_lossy() != number.to_string() {
            disk::remove_dir(&found.path())?;
        }
    }
    Ok(())
}
