//! The Raft log on RocksDB: entries, vote, purge marker, committed index and identity; one writer, one order.
//!
//! What is synced when stands in [`sync`]. What tells a torn end from a damaged one stands in [`floor`].

mod append;
mod floor;
mod read;
mod sizes;
mod sync;
#[cfg(test)]
mod tests;
mod witness;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use conflux_common::planted;
use conflux_proto::log;
use parking_lot::Mutex;
use prost::Message;
use rocksdb::{DB, WriteBatch};

pub(crate) use self::sync::Durable;
use self::{
    floor::FloorFile,
    sizes::Sizes,
    sync::{Job, SyncWorker},
    witness::Witness,
};
use crate::{
    codec,
    database::{self, cf, log_cf},
    error::{FatalError, OpenError},
    fatal::Fatal,
    types::{LogId, Vote},
};

/// An answer to a read holds about so many bytes of entries, and at least one entry.
pub const READ_BYTES: usize = 2 << 20;

const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
const COMMITTED: &[u8] = b"committed";
const IDENTITY: &[u8] = b"identity";

/// Who this replica is. Written once, when the group is founded or the member is admitted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The federation.
    pub cluster: String,
    /// The group.
    pub group: String,
    /// The member's stable name.
    pub member: String,
    /// Its Raft node id, never used again.
    pub node_id: u64,
    /// Drawn when the group was founded: two groups of one name differ in it.
    pub founding: Vec<u8>,
}

/// Makes the state durable up to an index at least; called before entries are purged.
pub(crate) type SyncState = Box<dyn Fn(u64) -> Result<(), FatalError> + Send + Sync>;

/// The log. Clones share one.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    // First, so that the thread is joined while the rest is alive.
    sync: SyncWorker,
    db: Arc<DB>,
    tail: Mutex<Tail>,
    durable: Arc<Durable>,
    sync_state: OnceLock<SyncState>,
    fatal: Fatal,
}

/// What is asked for all the time, kept in memory. It is changed after the write and before the sync.
struct Tail {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    committed: Option<LogId>,
    sizes: Sizes,
}

impl LogStore {
    /// Makes an empty log with its floor.
    pub(crate) fn create(dir: &Path, floor: &Path) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { what: format!("making {}", floor.display()), source };
        let db = database::open_log(dir)?;
        db.flush_wal(true).map_err(FatalError::from)?;
        FloorFile::create(floor).map_err(io)?;
        Ok(())
    }

    /// Opens the log and refuses it if it ends below its floor.
    pub(crate) fn open(dir: &Path, floor: &Path, fatal: Fatal) -> Result<Self, OpenError> {
        let floor = FloorFile::open(floor)?;
        let db = Arc::new(database::open_log(dir)?);
        let tail = Tail::load(&db)?;
        if !planted::has("torn_end") {
            floor.floor().check(tail.last.as_ref(), tail.vote.as_ref())?;
        }
        let witness = Witness::call(dir, tail.last.as_ref(), tail.vote.as_ref());
        // What was read back must stay: from here on it counts as durable.
        db.flush_wal(true).map_err(FatalError::from)?;
        let next = tail.last.as_ref().map_or(0, |id| id.index() + 1);
        let durable = Arc::new(Durable::new(next));
        let sync = SyncWorker::start(db.clone(), (floor, witness), tail.vote, durable.clone(), fatal.clone())
            .map_err(|source| OpenError::Io { what: "starting the sync worker".into(), source })?;
        let inner = Inner { sync, db, tail: Mutex::new(tail), durable, sync_state: OnceLock::new(), fatal };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Who must make the state durable before a purge. Set once.
    pub(crate) fn before_purge(&self, sync_state: SyncState) {
        // The first one stays; there is only one caller.
        let _ = self.inner.sync_state.set(sync_state);
    }

    /// How far the log is on disk.
    pub(crate) fn durable(&self) -> Arc<Durable> {
        self.inner.durable.clone()
    }

    /// The last index, purged or not.
    pub fn last(&self) -> Option<LogId> {
        self.inner.tail.lock().last
    }

    /// The highest purged index.
    pub fn purged(&self) -> Option<LogId> {
        self.inner.tail.lock().purged
    }

    /// The last index that is known to be committed.
    pub fn committed(&self) -> Option<LogId> {
        self.inner.tail.lock().committed
    }

    /// No vote was ever given and nothing was ever logged.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let tail = self.inner.tail.lock();
        tail.vote.is_none() && tail.last.is_none() && tail.purged.is_none()
    }

    /// Bytes of entries that are not purged, within 64 KiB.
    pub fn bytes(&self) -> u64 {
        self.inner.tail.lock().sizes.bytes()
    }

    /// Bytes of entries after this index, within 64 KiB.
    pub fn bytes_after(&self, index: u64) -> u64 {
        self.inner.tail.lock().sizes.bytes_after(index)
    }

    /// The highest index up to `upto` that may be purged so that at least `keep_bytes` of entries stay.
    pub fn purge_point(&self, keep_bytes: u64, upto: u64) -> Option<u64> {
        self.inner.tail.lock().sizes.purge_point(keep_bytes, upto)
    }

    /// Who this replica is; none: it has never been in a group.
    pub fn identity(&self) -> Result<Option<Identity>, FatalError> {
        let Some(bytes) = self.inner.db.get_cf(cf(&self.inner.db, log_cf::META)?, IDENTITY)? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| FatalError(format!("the identity of this member cannot be read: {e}")))
    }

    /// Stores who this replica is; returns once it is on disk.
    pub async fn write_identity(&self, identity: &Identity) -> Result<(), FatalError> {
        let bytes = serde_json::to_vec(identity).map_err(|e| FatalError(format!("identity: {e}")))?;
        self.inner.put_meta(IDENTITY, &bytes)?;
        self.inner.sync.wait(|done| Job::Other { done }).await
    }
}

impl Inner {
    fn put_meta(&self, key: &[u8], value: &[u8]) -> Result<(), FatalError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(cf(&self.db, log_cf::META)?, key, value);
        self.write(batch)
    }

    /// Writes to the page cache; [`sync`] makes it durable. A failed write is fatal.
    fn write(&self, batch: WriteBatch) -> Result<(), FatalError> {
        self.fatal.check()?;
        self.db.write(batch).map_err(|e| self.fatal.report(FatalError(format!("the log cannot be written: {e}"))))
    }
}

impl Tail {
    fn load(db: &DB) -> Result<Self, OpenError> {
        let meta = cf(db, log_cf::META)?;
        let log_id = |key: &[u8]| -> Result<Option<LogId>, FatalError> {
            let Some(bytes) = db.get_cf(meta, key)? else { return Ok(None) };
            Ok(Some(codec::log_id_from_proto(&decode::<log::LogId>("a log id", &bytes)?)))
        };
        let vote = match db.get_cf(meta, VOTE).map_err(FatalError::from)? {
            Some(bytes) => Some(codec::vote_from_proto(&decode::<log::Vote>("the vote", &bytes)?)),
            None => None,
        };
        let (purged, committed) = (log_id(PURGED)?, log_id(COMMITTED)?);
        let last = last_entry(db, purged.as_ref())?.or(purged);
        let sizes = load_sizes(db, purged.as_ref())?;
        Ok(Self { vote, purged, last, committed, sizes })
    }

    fn next_index(&self) -> u64 {
        self.last.as_ref().map_or(0, |id| id.index() + 1)
    }
}

fn decode<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, FatalError> {
    codec::decode(what, bytes).map_err(|e| FatalError(format!("the log is damaged: {e}")))
}

fn key_index(key: &[u8]) -> Result<u64, FatalError> {
    let key = key.try_into().map_err(|_| FatalError("the log is damaged: a key is not an index".into()))?;
    Ok(u64::from_be_bytes(key))
}

/// The last entry after the purge marker. Its neighbours are checked when they are read.
fn last_entry(db: &DB, purged: Option<&LogId>) -> Result<Option<LogId>, FatalError> {
    let mut rows = db.raw_iterator_cf(cf(db, log_cf::ENTRIES)?);
    rows.seek_to_last();
    rows.status()?;
    let Some((key, value)) = rows.item() else { return Ok(None) };
    let index = key_index(key)?;
    if purged.is_some_and(|purged| index <= purged.index()) {
        return Ok(None);
    }
    let id = decode::<log::LogEntry>("the last entry", value)?.id;
    let id = id.map(|id| codec::log_id_from_proto(&id)).filter(|id| id.index() == index);
    id.map(Some).ok_or_else(|| FatalError(format!("the log is damaged: entry {index} is another one")))
}

fn load_sizes(db: &DB, purged: Option<&LogId>) -> Result<Sizes, FatalError> {
    let mut marks = BTreeMap::new();
    let mut rows = db.raw_iterator_cf(cf(db, log_cf::SIZES)?);
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        marks.insert(key_index(key)?, key_index(value)?);
        rows.next();
    }
    rows.status()?;
    let mut sizes = Sizes::load(marks, purged.map(LogId::index));
    let from = sizes.counted_to().max(purged.map(LogId::index));
    count(db, &mut sizes, from, u64::MAX)?;
    Ok(sizes)
}

/// Counts the entries after `after`, up to `upto`.
fn count(db: &DB, sizes: &mut Sizes, after: Option<u64>, upto: u64) -> Result<(), FatalError> {
    let mut rows = db.raw_iterator_cf(cf(db, log_cf::ENTRIES)?);
    rows.seek(after.map_or(0, |index| index + 1).to_be_bytes());
    while let Some((key, value)) = rows.item() {
        let index = key_index(key)?;
        if index > upto {
            break;
        }
        sizes.append(index, value.len() as u64);
        rows.next();
    }
    Ok(rows.status()?)
}
