//! Reading: openraft's [`RaftLogReader`]. Any error is fatal: a leader that cannot read its log could damage a follower's.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
};

use conflux_proto::log;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::{
    OptionalSend,
    errors::LeaderChanged,
    storage::{LeaderBoundedStreamError, LeaderBoundedStreamResult, RaftLogReader},
};

use super::{LogStore, READ_BYTES, decode, key_index};
use crate::{
    codec,
    database::{cf, log_cf},
    error::FatalError,
    types::{Entry, LeaderId, TypeConfig, Vote},
};

impl LogStore {
    /// The entries of `start..end` that the log has, up to `max_bytes` but at least one. One iterator: one moment.
    pub(crate) fn read(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, FatalError> {
        let start = start.max(self.purged().map_or(0, |id| id.index() + 1));
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut rows = self.inner.db.raw_iterator_cf(cf(&self.inner.db, log_cf::ENTRIES)?);
        rows.seek(start.to_be_bytes());
        while let Some((key, value)) = rows.item() {
            let index = key_index(key)?;
            if index >= end || (bytes + value.len() > max_bytes && !entries.is_empty()) {
                break;
            }
            bytes += value.len();
            let entry = codec::entry_from_proto(decode::<log::LogEntry>("an entry", value)?)
                .map_err(|e| FatalError(format!("entry {index} of the log: {e}")))?;
            let follows = entries.last().is_none_or(|before| before.log_id.index() + 1 == index);
            if entry.log_id.index() != index || !follows {
                return Err(FatalError(format!("the log is damaged: a hole or another entry at index {index}")));
            }
            entries.push(entry);
            rows.next();
        }
        rows.status()?;
        Ok(entries)
    }

    fn read_or_stop(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, max_bytes).map_err(|e| self.inner.fatal.io(e))
    }

    fn vote(&self) -> Option<Vote> {
        self.inner.tail.lock().vote
    }

    /// Chunks of about 2 MiB, read as they are asked for. Its end is where the range or the log ends.
    fn chunks(&self, range: (u64, u64)) -> impl Stream<Item = Result<Vec<Entry>, io::Error>> + Send + use<> {
        let log = self.clone();
        stream::try_unfold(range, move |(start, end)| {
            let log = log.clone();
            async move {
                if start >= end {
                    return Ok(None);
                }
                let entries = log.read_or_stop(start, end, READ_BYTES)?;
                Ok(entries.last().map(|last| last.log_id.index() + 1).map(|next| (entries, (next, end))))
            }
        })
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn led_by(vote: Option<&Vote>, leader: &LeaderId) -> bool {
    vote.is_some_and(|vote| vote.leader_id == *leader && vote.committed)
}

impl RaftLogReader<TypeConfig> for LogStore {
    /// All of the range, whatever its size: openraft asks so only for small ranges.
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        self.read_or_stop(start, end, usize::MAX)
    }

    /// What replication sends in one message.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read_or_stop(start, end, READ_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.vote())
    }

    /// What apply reads: never more than a chunk in memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.chunks(bounds(&range)).map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten().boxed()
    }

    /// A chunk is given out only if the vote was the leader's before and after it was read.
    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = self.clone();
        let changed = move |vote| LeaderBoundedStreamError::from(LeaderChanged::new(leader, vote));
        stream::try_unfold(bounds(&range), move |(start, end)| {
            let log = log.clone();
            async move {
                let before = log.vote();
                if !led_by(before.as_ref(), &leader) {
                    return Err(changed(before));
                }
                if start >= end {
                    return Ok(None);
                }
                let entries = log.read_or_stop(start, end, READ_BYTES)?;
                let after = log.vote();
                if after != before {
                    return Err(changed(after));
                }
                Ok(entries.last().map(|last| last.log_id.index() + 1).map(|next| (entries, (next, end))))
            }
        })
        .map_ok(|entries| stream::iter(entries.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
    }
}
