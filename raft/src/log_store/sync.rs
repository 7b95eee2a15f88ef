//! The sync worker: one thread makes writes durable and answers everyone who waits, after one `flush_wal(true)`.
//!
//! **The fsync policy of the log.** An append, a vote, a truncation, a purge marker and the identity are answered only
//! after the write-ahead log that holds them was synced. They are written by one writer, in order, before they are
//! queued here, so that one sync covers all that wait. A failed sync is final: the kernel may have dropped the pages,
//! and a second try could falsely succeed. From then on everything is refused and the process must stop.

#[cfg_attr(not(feature = "simulation"), path = "sync/thread.rs")]
#[cfg_attr(feature = "simulation", path = "sync/task.rs")]
mod runner;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use conflux_common::{failpoint, planted};
use openraft::storage::IOFlushed;
use rocksdb::DB;
use tokio::sync::{oneshot, watch};

use self::runner::Runner;
use super::{
    floor::{Floor, FloorFile},
    witness::Witness,
};
use crate::{
    error::FatalError,
    fatal::Fatal,
    types::{TypeConfig, Vote},
};

/// So many jobs wait while one sync runs; then the single writer waits too, as it must not outrun the disk.
const QUEUE: usize = 1024;
/// The floor follows the last sync after this time.
const FLOOR_IDLE: Duration = Duration::from_millis(200);
/// Under load the floor is written this often.
const FLOOR_BUSY: Duration = Duration::from_secs(1);

/// How far the log is written and synced; seen by the state machine, which must not get ahead of the disk.
#[derive(Debug)]
pub(crate) struct Durable {
    /// The index after the last one written.
    pub(crate) submitted: AtomicU64,
    /// The index after the last one synced.
    pub(crate) synced: watch::Sender<u64>,
}

impl Durable {
    pub(crate) fn new(next_index: u64) -> Self {
        Self { submitted: AtomicU64::new(next_index), synced: watch::Sender::new(next_index) }
    }

    /// Returns once the entry at `index`, if this log has it, is on disk.
    pub(crate) async fn wait(&self, index: u64, fatal: &Fatal) -> Result<(), FatalError> {
        let next = (index + 1).min(self.submitted.load(Ordering::Acquire));
        let mut synced = self.synced.subscribe();
        tokio::select! {
            found = synced.wait_for(|synced| *synced >= next) => {
                found.map(drop).map_err(|_| FatalError("the log is closed".into()))
            }
            error = fatal.failed() => Err(error),
        }
    }
}

/// What waits for a sync.
pub(crate) enum Job {
    /// Entries before this index were appended.
    Appended { next_index: u64, callback: IOFlushed<TypeConfig> },
    /// A vote was written.
    Vote { vote: Vote, done: oneshot::Sender<Result<(), FatalError>> },
    /// Entries before this index were purged: the synced marker stands for them.
    Purged { next_index: u64, done: oneshot::Sender<Result<(), FatalError>> },
    /// Something else was written.
    Other { done: oneshot::Sender<Result<(), FatalError>> },
    /// The vote will be forgotten, see [`LogStore::reset`](super::LogStore::reset): lowers the floor first.
    Forget { done: oneshot::Sender<Result<(), FatalError>> },
    /// The log will be truncated to end before this index: lowers the floor first.
    Lower { next_index: u64, done: oneshot::Sender<Result<(), FatalError>> },
}

/// The handle of the worker. Dropping it lets the worker finish what is queued, and waits for it.
pub(crate) struct SyncWorker(Runner);

impl SyncWorker {
    pub(crate) fn start(
        db: Arc<DB>,
        (floor, witness): (FloorFile, Witness),
        vote: Option<Vote>,
        durable: Arc<Durable>,
        fatal: Fatal,
    ) -> io::Result<Self> {
        let known = Floor { next_index: *durable.synced.borrow(), vote };
        witness.note(&known);
        let worker = Worker { db, floor, witness, known, durable, fatal, failed: None, floor_written: Instant::now() };
        Runner::start(worker).map(Self)
    }

    /// Queues a job.
    pub(crate) fn submit(&self, job: Job) -> Result<(), FatalError> {
        if self.0.submit(job) { Ok(()) } else { Err(FatalError("the sync worker has stopped".into())) }
    }

    /// Queues a job and waits for its answer.
    pub(crate) async fn wait(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<(), FatalError>>) -> Job,
    ) -> Result<(), FatalError> {
        let (done, answer) = oneshot::channel();
        self.submit(job(done))?;
        answer.await.unwrap_or_else(|_| Err(FatalError("the sync worker has stopped".into())))
    }
}

struct Worker {
    db: Arc<DB>,
    floor: FloorFile,
    witness: Witness,
    /// What the next floor will say.
    known: Floor,
    durable: Arc<Durable>,
    fatal: Fatal,
    failed: Option<FatalError>,
    floor_written: Instant,
}

impl Worker {
    /// Whether the floor follows when nothing more comes.
    fn owes_floor(&self) -> bool {
        self.floor.floor() != self.known && self.failed.is_none()
    }

    /// One sync for all of these; then they are answered.
    fn serve(&mut self, waiting: Vec<Job>) {
        self.sync(waiting);
        if self.floor_written.elapsed() >= FLOOR_BUSY {
            self.write_floor();
        }
    }

    fn sync(&mut self, waiting: Vec<Job>) {
        if self.failed.is_none()
            && let Err(e) = self.flush(&waiting)
        {
            self.fail(FatalError(format!("the log cannot be synced: {e}")));
        }
        for job in waiting {
            self.answer(job);
        }
    }

    fn flush(&self, waiting: &[Job]) -> Result<(), FatalError> {
        failpoint::ail("disk.log_sync").map_err(|e| FatalError(e.to_string()))?;
        let unsynced = |bug: &str, is: fn(&Job) -> bool| planted::has(bug) && waiting.iter().all(is);
        if unsynced("unsynced_vote", |job| matches!(job, Job::Vote { .. }))
            || unsynced("unsynced_append", |job| matches!(job, Job::Appended { .. }))
        {
            return Ok(());
        }
        Ok(self.db.flush_wal(true)?)
    }

    fn answer(&mut self, job: Job) {
        let result = self.failed.clone().map_or(Ok(()), Err);
        let done = match job {
            Job::Appended { next_index, callback } => {
                self.reached(next_index, &result);
                return callback.io_completed(result.map_err(io::Error::other));
            }
            Job::Vote { vote, done } => {
                if result.is_ok() {
                    self.known.vote = Some(vote);
                    self.witness.note(&self.known);
                    failpoint::hit("raft.vote_kept");
                }
                done
            }
            Job::Purged { next_index, done } => {
                self.reached(next_index, &result);
                done
            }
            Job::Other { done } => done,
            Job::Lower { next_index, done } => {
                self.known.next_index = self.known.next_index.min(next_index);
                self.witness.note(&self.known);
                self.durable.synced.send_replace(self.known.next_index);
                return self.lowered(done);
            }
            Job::Forget { done } => {
                self.known.vote = None;
                self.witness.note(&self.known);
                return self.lowered(done);
            }
        };
        // Whoever asked may have gone: then nobody relies on the answer.
        let _ = done.send(result);
    }

    fn lowered(&mut self, done: oneshot::Sender<Result<(), FatalError>>) {
        self.write_floor();
        let _ = done.send(self.failed.clone().map_or(Ok(()), Err));
    }

    fn reached(&mut self, next_index: u64, result: &Result<(), FatalError>) {
        if result.is_ok() {
            self.known.next_index = self.known.next_index.max(next_index);
            self.witness.note(&self.known);
            failpoint::hit("raft.entries_kept");
            self.durable.synced.send_replace(self.known.next_index);
        }
    }

    fn write_floor(&mut self) {
        self.floor_written = Instant::now();
        if !self.owes_floor() {
            return;
        }
        if let Err(e) = self.floor.write(self.known) {
            self.fail(FatalError(format!("the floor of the log cannot be synced: {e}")));
        }
    }

    fn fail(&mut self, error: FatalError) {
        self.failed = Some(self.fatal.report(error));
    }
}

#[cfg(test)]
mod tests {
    use openraft::type_config::TypeConfigExt;

    use super::*;
    use crate::database;

    // After a failed sync the pages may be gone, and a second try would seem to succeed: everything must be refused.
    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_acknowledged() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, path) = (temp.path().join("log"), temp.path().join("floor"));
        let db = Arc::new(database::open_log(&dir).unwrap());
        FloorFile::create(&path).unwrap();
        let floor = FloorFile::open_unwritable(&path);
        let (durable, fatal) = (Arc::new(Durable::new(5)), Fatal::new());
        let worker = SyncWorker::start(db, (floor, Witness::absent()), None, durable.clone(), fatal.clone()).unwrap();
        assert!(worker.wait(|done| Job::Lower { next_index: 2, done }).await.is_err());
        assert!(fatal.check().unwrap_err().0.contains("cannot be synced"));
        assert!(worker.wait(|done| Job::Other { done }).await.is_err());
        assert!(worker.wait(|done| Job::Vote { vote: Vote::new(1, 1), done }).await.is_err());
        let (done, answer) = TypeConfig::oneshot();
        worker.submit(Job::Appended { next_index: 9, callback: IOFlushed::signal(done) }).unwrap();
        assert!(answer.await.unwrap().is_err());
        assert!(durable.wait(8, &fatal).await.is_err());
    }

    // The state must not be ahead of the log after a power cut: a batch waits until its entries are synced.
    #[tokio::test]
    async fn waiting_ends_with_the_sync() {
        let (durable, fatal) = (Arc::new(Durable::new(3)), Fatal::new());
        durable.wait(2, &fatal).await.unwrap();
        // What this log does not have is not waited for: it came with a snapshot.
        durable.wait(7, &fatal).await.unwrap();
        durable.submitted.store(8, Ordering::Release);
        let waiting = durable.wait(7, &fatal);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        durable.synced.send_replace(8);
        waiting.await.unwrap();
    }
}
