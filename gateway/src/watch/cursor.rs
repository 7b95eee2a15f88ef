//! Where one watcher stands: what it has been given, and where its next revision comes from. Pure.
//!
//! It begins at a revision that the client has seen. Below what the ring holds it reads the history, page by page,
//! above from the ring; whichever gives the next revision, it is the one after the last.

use std::{collections::VecDeque, sync::Arc};

use conflux_common::{
    ids::{Revision, RevisionMark},
    planted,
};
use conflux_proto::internal::HistoryResponse;

use super::{
    revision::{Change, Held},
    ring::{Ended, Ring},
};

/// See the module.
#[derive(Debug)]
pub struct Cursor {
    at: RevisionMark,
    /// Read from the history and selected, not yet given.
    page: VecDeque<Arc<Held>>,
    /// Where the page ends, selected or not.
    page_end: u64,
    /// The start of the ring in which it has been; none while it has only read history.
    live: Option<u64>,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// The next revision, which is now counted as given.
    Give(Arc<Held>),
    /// Read the history above `after` up to `to`, and give it to [`Cursor::page`].
    Read {
        /// Exclusive.
        after: u64,
        /// Inclusive.
        to: u64,
    },
    /// Nothing new yet.
    Wait,
    /// Too slow: what comes next is not held any more.
    Overrun,
    /// The tenant is in another life: its revisions are not those that this watcher counts.
    OtherLife,
    /// Nothing will come.
    Ended(Ended),
}

/// A page that does not follow on: another replica may have a better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The replica has not seen so much yet.
    #[error("it is behind")]
    Behind,
    /// Its tenant is in another life.
    #[error("it has another incarnation of the tenant")]
    OtherLife,
    /// It must not be given as if nothing were missing.
    #[error("its history has a hole")]
    Hole,
}

impl Cursor {
    /// Begins after this revision.
    pub fn new(after: RevisionMark) -> Self {
        Self { at: after, page: VecDeque::new(), page_end: after.revision.0, live: None }
    }

    /// Everything up to here has been given, or was not selected.
    pub fn at(&self) -> RevisionMark {
        self.at
    }

    /// The next step of the watcher. A revision from the ring is given whether it is selected or not.
    pub fn step(&mut self, ring: &Ring) -> Step {
        if let Some(next) = self.page.pop_front() {
            self.at = next.mark;
            return Step::Give(next);
        }
        self.at.revision = Revision(self.at.revision.0.max(self.page_end));
        if let Some(ended) = ring.ended() {
            return Step::Ended(ended);
        }
        let (Some(position), Some(floor)) = (ring.position(), ring.floor()) else { return Step::Wait };
        let at = self.at.revision.0;
        if position.incarnation != self.at.incarnation {
            return Step::OtherLife;
        }
        if at < floor {
            // What the ring let go of while the watcher was in it, it was too slow for.
            if self.live == Some(ring.starts()) {
                return Step::Overrun;
            }
            if planted::has("skipped_history") {
                self.at.revision = Revision(floor);
                return self.step(ring);
            }
            return Step::Read { after: at, to: floor };
        }
        self.live = Some(ring.starts());
        match ring.next(at) {
            Some(next) => {
                self.at = next.mark;
                Step::Give(next.clone())
            }
            None => Step::Wait,
        }
    }

    /// What of the history is needed before anything else.
    pub fn needs(&self, ring: &Ring) -> Option<(u64, u64)> {
        let at = self.at.revision.0;
        ring.floor().filter(|floor| at < *floor && !planted::has("skipped_history")).map(|floor| (at, floor))
    }

    /// Takes a page that [`Step::Read`] asked for, keeping what is selected.
    pub fn page(&mut self, page: HistoryResponse, mut selects: impl FnMut(&Change) -> bool) -> Result<(), Misfit> {
        if page.incarnation != self.at.incarnation.0 {
            return Err(Misfit::OtherLife);
        }
        let mut end = self.at.revision.0;
        let mut kept = VecDeque::new();
        for revision in page.revisions {
            if revision.incarnation != self.at.incarnation.0 {
                return Err(Misfit::OtherLife);
            }
            if revision.revision <= end {
                continue;
            }
            if revision.revision != end + 1 {
                return Err(Misfit::Hole);
            }
            end = revision.revision;
            let held = Held::from(revision);
            if held.changes.iter().any(&mut selects) {
                kept.push_back(Arc::new(held));
            }
        }
        if end == self.at.revision.0 {
            return Err(Misfit::Behind);
        }
        (self.page, self.page_end) = (kept, end);
        Ok(())
    }

    /// Forgets what was read but not given: it was chosen by a selection that no longer holds.
    pub fn rewind(&mut self) {
        self.page.clear();
        self.page_end = self.at.revision.0;
    }
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
