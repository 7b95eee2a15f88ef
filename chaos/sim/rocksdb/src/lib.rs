//! Stands in for RocksDB: as much of its interface as Conflux uses, in memory.
//!
//! A database is an [`image`]: what was written and what of it was synced. [`simulation::power_loss`] takes away what was
//! not. On disk there are only the files by which a database is known: `CURRENT` names its image, or says that the
//! directory is a checkpoint, whose rows are in `000001.sst`. So directories can be linked, renamed, sent and removed as
//! those of RocksDB can.

mod batch;
pub mod checkpoint;
mod database;
mod image;
mod iterator;
mod options;
pub mod simulation;

use std::fmt;

pub use batch::WriteBatch;
pub use database::{ColumnFamily, DB, Snapshot};
pub use iterator::DBRawIterator;
pub use options::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options, ReadOptions,
};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    fn new(what: impl ToString) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
