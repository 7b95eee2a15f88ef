//! A checkpoint outside of a data directory: unpacked from a stream, and read.

use std::{io, path::Path};

use rocksdb::DB;

use super::Position;
use crate::{
    database::{self, cf, state_cf},
    error::FatalError,
    snapshot::unpack::Unpacker,
    state_store::{LiveRows, meta::StateMeta},
    view::View,
};

/// Takes the bytes of a packed checkpoint and writes its files.
pub struct Files(Unpacker);

impl Files {
    /// Into a directory that is not there yet.
    pub fn create(dir: &Path) -> io::Result<Self> {
        Unpacker::create(dir).map(Self)
    }

    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes)
    }

    /// All has arrived, with this sum, and is on disk.
    pub fn finish(self, sha256: [u8; 32]) -> io::Result<()> {
        self.0.finish(Some(sha256))
    }
}

/// An unpacked checkpoint, open to be read. It is not changed.
pub struct Checkpoint {
    db: DB,
    meta: StateMeta,
}

impl Checkpoint {
    /// Opens it.
    pub fn open(path: &Path) -> Result<Self, FatalError> {
        let db = database::open_checkpoint(path)?;
        let meta = StateMeta::load(&db)?;
        Ok(Self { db, meta })
    }

    /// How far it had come.
    pub fn position(&self) -> Position {
        self.meta.position()
    }

    /// Reads its rows.
    pub fn view<R>(&self, f: impl FnOnce(&View<'_>) -> R) -> Result<R, FatalError> {
        // Both must be there, or it is no state of a member.
        cf(&self.db, state_cf::META)?;
        let rows = LiveRows::new(&self.db)?;
        Ok(f(&View::new(&rows)))
    }
}
