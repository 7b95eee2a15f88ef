//! Commands to rows. One batch holds the rows of its commands and everything that Raft keeps beside them.

use std::sync::Arc;

use bytes::Bytes;
use conflux_proto::log;
use openraft::EntryPayload;
use rocksdb::{DB, WriteBatch};

use super::{
    Current, Shared, check_level,
    generation::LiveRows,
    meta::{self, StateMeta},
};
use crate::{
    app::{self, App},
    database::{cf, state_cf},
    error::FatalError,
    types::{Answer, Command, Entry, StoredMembership},
    view::{Overlay, ReadOnce, Tx},
};

/// In release builds the application's invariants are checked at one index in so many. One check reads as much as several commands:
/// at 1 in 64 it was a tenth of what a member did under writes.
const CHECK_EVERY: u64 = 1024;

/// What one batch gathers.
struct Work<'a, A: App> {
    app: &'a A,
    db: &'a DB,
    rows: ReadOnce<LiveRows<'a>>,
    written: Overlay,
    meta: StateMeta,
    batch: WriteBatch,
    notices: Vec<A::Notice>,
}

impl<A: App> Shared<A> {
    /// Applies entries in one batch; gives an answer for each. Blocking.
    pub(super) fn apply(&self, entries: &[Entry]) -> Result<Vec<Answer>, FatalError> {
        self.fatal.check()?;
        let Current { generation, meta } = self.current.read().clone();
        let db = generation.db();
        let mut work = Work {
            app: &*self.app,
            db,
            rows: ReadOnce::new(LiveRows::new(db)?),
            written: Overlay::new(),
            meta: (*meta).clone(),
            batch: WriteBatch::default(),
            notices: Vec::new(),
        };
        let answers = entries.iter().map(|entry| work.entry(entry)).collect::<Result<_, _>>()?;
        let (meta, notices) = work.commit()?;
        let index = meta.applied_index();
        self.current.write().meta = Arc::new(meta);
        if !notices.is_empty() {
            self.app.committed(notices);
        }
        self.applied.send_replace(index);
        Ok(answers)
    }
}

impl<A: App> Work<'_, A> {
    fn entry(&mut self, entry: &Entry) -> Result<Answer, FatalError> {
        let index = entry.log_id.index();
        if self.meta.last.as_ref().is_some_and(|last| last.index() >= index) {
            return Err(FatalError(format!("entry {index} comes after {} was applied", self.meta.applied_index())));
        }
        let answer = match &entry.payload {
            EntryPayload::Blank => Answer::default(),
            EntryPayload::Normal(command) => self.command(index, command)?,
            EntryPayload::Membership(membership) => {
                self.meta.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                Answer::default()
            }
        };
        self.meta.last = Some(entry.log_id);
        Ok(answer)
    }

    fn command(&mut self, index: u64, command: &Command) -> Result<Answer, FatalError> {
        self.meta.stamp_ms = self.meta.stamp_ms.max(command.0.stamp_ms);
        match &command.0.body {
            Some(log::command::Body::App(command)) => self.app_command(index, command).map(Answer),
            Some(log::command::Body::RaiseLevel(level)) => {
                self.meta.level = self.meta.level.max(*level);
                check_level::<A>(&self.meta).map_err(FatalError)?;
                Ok(Answer::default())
            }
            Some(log::command::Body::Admit(node)) => {
                meta::admit(self.db, &mut self.batch, index, node).map(Answer::of_node_id)
            }
            None => Err(FatalError(format!(
                "entry {index} holds a command that this binary does not know: start a newer binary on this member"
            ))),
        }
    }

    fn app_command(&mut self, index: u64, command: &Bytes) -> Result<Bytes, FatalError> {
        let entry = app::Entry { index, stamp_ms: self.meta.stamp_ms, level: self.meta.level, command };
        let mut tx = Tx::new(&self.rows, &self.written);
        let applied = self.app.apply(&entry, &mut tx)?;
        if cfg!(debug_assertions) || index.is_multiple_of(CHECK_EVERY) {
            self.app
                .check(&tx)
                .map_err(|what| FatalError(format!("an invariant is broken after entry {index}: {what}")))?;
        }
        let own = tx.into_overlay();
        self.written.extend(own);
        self.notices.extend(applied.notices);
        Ok(applied.answer)
    }

    /// Writes the batch: one write, all or nothing. Not synced, see the policy in [`state_store`](super).
    fn commit(mut self) -> Result<(StateMeta, Vec<A::Notice>), FatalError> {
        let rows = cf(self.db, state_cf::ROWS)?;
        for (key, value) in &self.written {
            match value {
                Some(value) => self.batch.put_cf(rows, key, value),
                None => self.batch.delete_cf(rows, key),
            }
        }
        self.meta.store(self.db, &mut self.batch)?;
        self.db.write(self.batch).map_err(|e| FatalError(format!("the state cannot be written: {e}")))?;
        Ok((self.meta, self.notices))
    }
}
