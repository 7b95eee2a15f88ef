//! One shard group: what its applied log has made of it. Changed by its own entries only.

use crate::{
    client::Write,
    message::{Data, Epoch, Message, Move, Shard, X, Y},
    system::Rules,
};

/// What the shard is to the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Nothing.
    Absent,
    /// It takes in what the source sends.
    Importing { of: Move, chunks: u8 },
    /// It has all of it, and waits for the commit point.
    Prepared { of: Move },
    /// It serves.
    Active { epoch: Epoch },
    /// It serves nothing but old reads, and waits for how the move ends.
    Frozen { epoch: Epoch, of: Move },
    /// It served once.
    Moved { epoch: Epoch },
}

/// An entry of its log: proposed, and applied when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    Import(Move),
    First {
        of: Move,
        history: Vec<Write>,
        row: u8,
    },
    Second {
        of: Move,
        row: u8,
    },
    Delta {
        of: Move,
        from: usize,
        writes: Vec<Write>,
        put: u8,
        gone: u8,
    },
    Seal {
        of: Move,
        data: Data,
    },
    Activate {
        of: Move,
        epoch: Epoch,
    },
    Freeze {
        of: Move,
        epoch: Epoch,
    },
    /// The move ended without this shard giving anything away: thaw, or drop what was imported.
    End(Move),
    Depart {
        of: Move,
        epoch: Epoch,
    },
    Clean,
    Write {
        write: Write,
        epoch: Epoch,
    },
}

/// The state of one shard group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardState {
    /// What it is to the tenant.
    pub owner: Owner,
    /// What it has of it.
    pub data: Data,
    /// The highest move that it has ended; a move not above it is refused.
    pub ended: Move,
    /// Proposed, not applied.
    pub queue: Vec<Entry>,
}

impl ShardState {
    /// Without the tenant.
    pub fn empty() -> Self {
        Self { owner: Owner::Absent, data: Data::default(), ended: 0, queue: Vec::new() }
    }

    /// Applies one entry of its log; answers what it says. `me` is which shard this is.
    pub fn apply(&mut self, me: Shard, entry: Entry, rules: &Rules) -> Option<Message> {
        match entry {
            Entry::Import(of) => {
                let free = matches!(self.owner, Owner::Absent | Owner::Moved { .. }) && self.data == Data::default();
                if of > self.ended && free {
                    self.owner = Owner::Importing { of, chunks: 0 };
                }
                None
            }
            Entry::First { of, history, row } => {
                if self.owner == (Owner::Importing { of, chunks: 0 }) {
                    self.data = Data { history, rows: row };
                    self.owner = Owner::Importing { of, chunks: 1 };
                }
                None
            }
            Entry::Second { of, row } => (self.owner == Owner::Importing { of, chunks: 1 }).then(|| {
                self.data.rows |= row;
                self.owner = Owner::Importing { of, chunks: 2 };
                Message::CaughtUp(of)
            }),
            Entry::Delta { of, from, writes, put, gone } => {
                let follows = self.owner == Owner::Importing { of, chunks: 2 } && from == self.data.history.len();
                if follows {
                    self.data.history.extend(writes);
                    self.data.rows |= put;
                    if rules.tombstones_in_deltas {
                        self.data.rows &= !gone;
                    }
                }
                None
            }
            Entry::Seal { of, data } => {
                let whole = self.owner == Owner::Importing { of, chunks: 2 } && self.data == data;
                whole.then(|| {
                    self.owner = Owner::Prepared { of };
                    Message::Prepared(of)
                })
            }
            Entry::Activate { of, epoch } => (self.owner == Owner::Prepared { of }).then(|| {
                self.owner = Owner::Active { epoch };
                self.ended = of;
                Message::Active(of)
            }),
            Entry::Freeze { of, epoch } => (of > self.ended && self.owner == Owner::Active { epoch }).then(|| {
                self.owner = Owner::Frozen { epoch, of };
                Message::Frozen { of, data: self.data.clone() }
            }),
            Entry::End(of) => {
                match self.owner {
                    Owner::Frozen { epoch, of: m } if m == of => self.owner = Owner::Active { epoch },
                    Owner::Importing { of: m, .. } | Owner::Prepared { of: m } if m == of => {
                        self.owner = Owner::Absent;
                        self.data = Data::default();
                    }
                    _ => {}
                }
                self.ended = self.ended.max(of);
                Some(Message::Ended(of, me))
            }
            Entry::Depart { of, epoch } => {
                if matches!(self.owner, Owner::Frozen { of: m, .. } if m == of) {
                    self.owner = Owner::Moved { epoch };
                    self.ended = of;
                }
                None
            }
            Entry::Clean => matches!(self.owner, Owner::Moved { .. }).then(|| {
                self.data = Data::default();
                Message::Clean(self.ended)
            }),
            Entry::Write { write, epoch } => {
                if rules.epoch_at_apply && self.owner != (Owner::Active { epoch }) {
                    return None;
                }
                if !self.data.history.contains(&write) {
                    self.data.write(write);
                }
                Some(Message::Done(write))
            }
        }
    }

    /// What the destination, as far as it is, needs next. Only who serves or is frozen for this move has it.
    pub fn send(&self, of: Move, destination: &ShardState) -> Option<Message> {
        let has =
            matches!(self.owner, Owner::Active { .. }) || matches!(self.owner, Owner::Frozen { of: m, .. } if m == of);
        if !has {
            return None;
        }
        match destination.owner {
            Owner::Importing { of: m, chunks: 0 } if m == of => {
                Some(Message::First { of, history: self.data.history.clone(), row: self.data.rows & X })
            }
            Owner::Importing { of: m, chunks: 1 } if m == of => Some(Message::Second { of, row: self.data.rows & Y }),
            Owner::Importing { of: m, .. } if m == of => {
                let from = destination.data.history.len();
                let writes: Vec<Write> = self.data.history.get(from..)?.to_vec();
                let touched = writes.iter().fold(0, |all, w| all | Data::touched(*w));
                let put = touched & self.data.rows;
                (!writes.is_empty()).then_some(Message::Delta {
                    of,
                    from,
                    writes,
                    put,
                    gone: touched & !self.data.rows,
                })
            }
            _ => None,
        }
    }
}
