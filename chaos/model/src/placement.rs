//! Placement's record of the tenant.

use crate::message::{Epoch, Move, Shard};

/// Where the record stands. A move's own facts are in [`Placement::moves`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record {
    /// The tenant is served by this shard under this epoch.
    Stable { shard: Shard, epoch: Epoch },
    /// It is being copied.
    Preparing(Move),
    /// The source is being frozen, or is.
    Freezing(Move),
    /// The destination owns it: the commit point is behind.
    Committed(Move),
    /// The destination serves; the source deletes.
    Cleaning(Move),
    /// The source keeps it.
    Aborted(Move),
}

/// The facts of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts {
    /// From where.
    pub source: Shard,
    /// To where.
    pub destination: Shard,
    /// The epoch under which the source serves.
    pub epoch: Epoch,
    /// The fresh epoch of the destination; an abort burns it.
    pub next: Epoch,
}

/// The record and the moves so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Where it stands.
    pub record: Record,
    /// By number, from 1.
    pub moves: Vec<Facts>,
}

impl Placement {
    /// The facts of a move that was begun.
    pub fn facts(&self, of: Move) -> Facts {
        self.moves[usize::from(of) - 1]
    }

    /// Who owns the tenant, under which epoch: what a look-up answers.
    pub fn owner(&self) -> (Shard, Epoch) {
        match self.record {
            Record::Stable { shard, epoch } => (shard, epoch),
            Record::Preparing(m) | Record::Freezing(m) | Record::Aborted(m) => {
                (self.facts(m).source, self.facts(m).epoch)
            }
            Record::Committed(m) | Record::Cleaning(m) => (self.facts(m).destination, self.facts(m).next),
        }
    }

    /// The fresh epoch of the next move: above every epoch that was ever given out.
    pub fn fresh_epoch(&self) -> Epoch {
        self.moves.iter().map(|m| m.next).max().unwrap_or(1) + 1
    }
}
