//! The changes in order, so that a stream resumes where it broke off. Bounded: the oldest go first.

use conflux_proto::{internal::Change, store};
use conflux_raft::{FatalError, Read, Tx};

use crate::store::{
    Key,
    rows::{counters, load, remove, save},
};

/// Frames that are kept. A stream that is further behind starts from a whole copy.
pub const KEPT: u64 = 100_000;
/// Old frames removed by one command: more than one is added, so a lowered bound is reached soon and no apply is long.
const REMOVED_AT_ONCE: u64 = 4;

/// Adds the changes of one command as the next frame.
pub fn append(tx: &mut Tx<'_>, changes: Vec<Change>) -> Result<u64, FatalError> {
    append_keeping(tx, changes, KEPT)
}

pub(super) fn append_keeping(tx: &mut Tx<'_>, changes: Vec<Change>, kept: u64) -> Result<u64, FatalError> {
    let mut counters = counters(tx)?;
    counters.change_seq += 1;
    save(tx, &Key::Change(counters.change_seq), &store::ChangeFrame { changes });
    let floor = counters.change_seq.saturating_sub(kept);
    for _ in 0..REMOVED_AT_ONCE {
        if counters.change_floor >= floor {
            break;
        }
        counters.change_floor += 1;
        remove(tx, &Key::Change(counters.change_floor));
    }
    save(tx, &Key::Counters, &counters);
    Ok(counters.change_seq)
}

/// A stretch of the history.
#[derive(Debug, PartialEq)]
pub enum Stretch {
    /// The frames after the given sequence, in order; empty: there are none yet.
    Frames(Vec<(u64, store::ChangeFrame)>),
    /// Some of them are gone, or the sequence is of another history: only a whole copy helps.
    Gone,
}

/// At most `limit` frames after `after`.
pub fn after(rows: &impl Read, after: u64, limit: usize) -> Result<Stretch, FatalError> {
    let counters = counters(rows)?;
    if after < counters.change_floor || after > counters.change_seq {
        return Ok(Stretch::Gone);
    }
    let mut frames = Vec::new();
    for seq in (after + 1..=counters.change_seq).take(limit) {
        let frame = load(rows, &Key::Change(seq))?
            .ok_or_else(|| FatalError(format!("change {seq} is missing from the history")))?;
        frames.push((seq, frame));
    }
    Ok(Stretch::Frames(frames))
}
