//! What the parts say to each other, and what a tenant's data is.

use crate::client::Write;

/// A move's number, from 1.
pub type Move = u8;
/// An ownership epoch.
pub type Epoch = u8;
/// Which of the two shards.
pub type Shard = usize;

/// All of a tenant: its history (write number by write number: its length is the revision and the row sequence) and its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Data {
    /// The writes in the order in which they had their effect.
    pub history: Vec<Write>,
    /// Which of the rows exist, a bit each.
    pub rows: u8,
}

/// A row: one of two.
pub const X: u8 = 0b01;
/// The other.
pub const Y: u8 = 0b10;

impl Data {
    /// The effect of a write. The first puts X, the second deletes it, the third puts Y.
    pub fn write(&mut self, write: Write) {
        self.history.push(write);
        match write {
            1 => self.rows |= X,
            2 => self.rows &= !X,
            _ => self.rows |= Y,
        }
    }

    /// The row that a write touches.
    pub fn touched(write: Write) -> u8 {
        if write <= 2 { X } else { Y }
    }
}

/// A message. Sent once, it may arrive ever after.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// To the destination: begin to import.
    Import(Move),
    /// To the destination: the first chunk (row X), and the row sequence noted before it was read.
    First { of: Move, history: Vec<Write>, row: u8 },
    /// To the destination: the second chunk (row Y), read later.
    Second { of: Move, row: u8 },
    /// To the destination: rows touched after `from`: as they are, or gone.
    Delta { of: Move, from: usize, writes: Vec<Write>, put: u8, gone: u8 },
    /// From the destination: it follows closely.
    CaughtUp(Move),
    /// To the source: freeze.
    Freeze(Move),
    /// From the source, handed on to the destination: frozen, with all of it (in truth the revision and the content hash).
    Frozen { of: Move, data: Data },
    /// From the destination: it has exactly that.
    Prepared(Move),
    /// To the destination: look up, and serve.
    Activate(Move),
    /// From the destination: it serves.
    Active(Move),
    /// From the source: nothing is left but the tombstone.
    Clean(Move),
    /// To both: the move was aborted.
    End(Move),
    /// From one of them: it knows.
    Ended(Move, Shard),
    /// To the client: done.
    Done(Write),
}

impl Message {
    /// Whether both carry the same part of the same copy.
    pub fn same_place(&self, other: &Message) -> bool {
        match (self, other) {
            (Message::First { of: a, .. }, Message::First { of: b, .. })
            | (Message::Second { of: a, .. }, Message::Second { of: b, .. }) => a == b,
            (Message::Delta { of: a, from: x, .. }, Message::Delta { of: b, from: y, .. }) => a == b && x == y,
            _ => false,
        }
    }
}
