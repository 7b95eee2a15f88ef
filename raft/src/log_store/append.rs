//! Writing: openraft's [`RaftLogStorage`]. Each write cites the policy in [`sync`](super::sync).

use std::{io, sync::atomic::Ordering};

use openraft::{
    OptionalSend,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use prost::Message;
use rocksdb::WriteBatch;

use super::{COMMITTED, LogStore, PURGED, VOTE, count, sync::Job};
use crate::{
    codec,
    database::{cf, log_cf},
    error::FatalError,
    types::{Entry, LogId, TypeConfig, Vote},
};

impl LogStore {
    /// Writes entries and returns the index after the last one. They are readable at once, and durable after the next
    /// sync. Writes into the page cache: some microseconds, on the thread of openraft's core.
    fn write_entries(&self, entries: impl IntoIterator<Item = Entry>) -> Result<u64, FatalError> {
        let inner = &self.inner;
        let (rows, marks) = (cf(&inner.db, log_cf::ENTRIES)?, cf(&inner.db, log_cf::SIZES)?);
        let mut tail = inner.tail.lock();
        let (mut batch, mut last) = (WriteBatch::default(), tail.last);
        for entry in entries {
            let index = entry.log_id.index();
            if last.is_some_and(|last| index != last.index() + 1) {
                let end = last.map_or(0, |id| id.index());
                let error = FatalError(format!("entry {index} does not follow the end of the log, {end}"));
                return Err(inner.fatal.report(error));
            }
            last = Some(entry.log_id);
            let bytes = codec::entry_to_proto(&entry).encode_to_vec();
            batch.put_cf(rows, index.to_be_bytes(), &bytes);
            if let Some(mark) = tail.sizes.append(index, bytes.len() as u64) {
                batch.put_cf(marks, index.to_be_bytes(), mark.to_be_bytes());
            }
        }
        inner.write(batch)?;
        tail.last = last;
        let next = tail.next_index();
        inner.durable.submitted.store(next, Ordering::Release);
        Ok(next)
    }

    /// Removes the entries after `keep`. The caller has lowered the floor.
    fn write_truncation(&self, keep: Option<LogId>) -> Result<(), FatalError> {
        let inner = &self.inner;
        let mut tail = inner.tail.lock();
        let (from, to) = (keep.map_or(0, |id| id.index() + 1), tail.next_index());
        if from >= to {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        for family in [log_cf::ENTRIES, log_cf::SIZES] {
            batch.delete_range_cf(cf(&inner.db, family)?, from.to_be_bytes(), to.to_be_bytes());
        }
        inner.write(batch)?;
        tail.sizes.truncate(keep.map(|id| id.index()));
        let counted = tail.sizes.counted_to().max(tail.purged.map(|id| id.index()));
        count(&inner.db, &mut tail.sizes, counted, from.saturating_sub(1))?;
        tail.last = keep.or(tail.purged);
        let next = tail.next_index();
        inner.durable.submitted.store(next, Ordering::Release);
        Ok(())
    }

    /// Writes the purge marker.
    fn write_purge_marker(&self, upto: LogId) -> Result<(), FatalError> {
        let inner = &self.inner;
        let mut tail = inner.tail.lock();
        inner.put_meta(PURGED, &codec::log_id_to_proto(&upto).encode_to_vec())?;
        tail.purged = Some(upto);
        tail.sizes.purge(upto.index());
        if tail.last.is_none_or(|last| last.index() <= upto.index()) {
            tail.last = Some(upto);
            tail.sizes.clear();
            let next = tail.next_index();
            inner.durable.submitted.store(next, Ordering::Release);
        }
        Ok(())
    }

    /// Deletes what the synced purge marker covers: whole files at once, then one range. Nothing is read into memory.
    /// If the process dies before, the next purge does it.
    fn delete_purged(&self, upto: u64) -> Result<(), FatalError> {
        let db = &self.inner.db;
        let rows = cf(db, log_cf::ENTRIES)?;
        let (first, end) = (0u64.to_be_bytes(), (upto + 1).to_be_bytes());
        let base = self.inner.tail.lock().sizes.first_mark().unwrap_or(0).min(upto + 1);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(rows, first, end);
        batch.delete_range_cf(cf(db, log_cf::SIZES)?, first, base.to_be_bytes());
        self.inner.write(batch)?;
        // The end is inclusive here, and whole files below it go.
        db.delete_file_in_range_cf(rows, first, upto.to_be_bytes()).map_err(FatalError::from)
    }

    async fn purge_upto(&self, upto: LogId) -> Result<(), FatalError> {
        if let Some(sync_state) = self.inner.sync_state.get() {
            sync_state(upto.index())?;
        }
        if self.purged().is_some_and(|purged| purged.index() >= upto.index()) {
            return Ok(());
        }
        self.write_purge_marker(upto)?;
        let next_index = upto.index() + 1;
        self.inner.sync.wait(|done| Job::Purged { next_index, done }).await?;
        self.delete_purged(upto.index())
    }

    async fn truncate(&self, keep: Option<LogId>) -> Result<(), FatalError> {
        let next_index = keep.map_or(0, |id| id.index() + 1);
        self.inner.sync.wait(|done| Job::Lower { next_index, done }).await?;
        self.write_truncation(keep)?;
        self.inner.sync.wait(|done| Job::Other { done }).await
    }

    /// Forgets the vote of a log in which there was never an entry, synced: a founding that did not succeed is begun anew.
    /// Refused otherwise, since a vote that counted could be given twice.
    pub async fn reset(&self) -> Result<(), FatalError> {
        if self.last().is_some() || self.purged().is_some() {
            return Err(FatalError("a log with entries cannot be reset".into()));
        }
        self.inner.sync.wait(|done| Job::Forget { done }).await?;
        let mut batch = WriteBatch::default();
        batch.delete_cf(cf(&self.inner.db, log_cf::META)?, VOTE);
        self.inner.write(batch)?;
        self.inner.tail.lock().vote = None;
        self.inner.sync.wait(|done| Job::Other { done }).await
    }

    async fn write_vote(&self, vote: Vote) -> Result<(), FatalError> {
        {
            let mut tail = self.inner.tail.lock();
            self.inner.put_meta(VOTE, &codec::vote_to_proto(&vote).encode_to_vec())?;
            tail.vote = Some(vote);
        }
        self.inner.sync.wait(|done| Job::Vote { vote, done }).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.inner.tail.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    /// Answered after the sync.
    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write_vote(*vote).await.map_err(|e| self.inner.fatal.io(e))
    }

    /// Not synced on its own: the next append carries it to the disk. A power cut may set it back; then the node waits
    /// for recovery before it serves reads.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        let bytes = codec::log_id_to_proto(&committed).encode_to_vec();
        self.inner.put_meta(COMMITTED, &bytes).map_err(|e| self.inner.fatal.io(e))?;
        self.inner.tail.lock().committed = Some(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed())
    }

    /// Readable when it returns; the callback is called after the sync.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let next_index = self.write_entries(entries).map_err(|e| self.inner.fatal.io(e))?;
        self.inner.sync.submit(Job::Appended { next_index, callback }).map_err(|e| self.inner.fatal.io(e))
    }

    /// The floor is lowered and synced, then the entries go, then that is synced.
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.truncate(last).await.map_err(|e| self.inner.fatal.io(e))
    }

    /// The state is synced up to there, then the marker is written and synced, then the entries are deleted.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.purge_upto(upto).await.map_err(|e| self.inner.fatal.io(e))
    }
}
