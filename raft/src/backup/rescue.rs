//! A backup from the directory of a member that does not run: what is left when a majority is lost.

use std::{path::Path, sync::Arc};

use conflux_common::settings::RaftTuning;

use super::take::{self, BackupStream};
use crate::{
    app::App,
    disk::DataDir,
    error::{FatalError, OpenError},
    fatal::Fatal,
    log_store::{Identity, LogStore},
    storage::{self, Storage},
};

/// Entries read at once.
const CHUNK_BYTES: usize = 4 << 20;

/// A data directory without its process. While it is open no process can start on it.
pub struct Offline<A: App> {
    storage: Storage<A>,
    app: Arc<A>,
    identity: Identity,
}

/// Which group a data directory is of: placement's commands are others than a shard's. Refused while a process uses it.
/// Blocking.
pub fn group_of(dir: &Path) -> Result<String, OpenError> {
    DataDir::require(dir)?;
    let at = DataDir::at(dir);
    let log = LogStore::open(&at.log(), &at.floor(), Fatal::new())?;
    Ok(log.identity()?.ok_or_else(|| never_in_a_group(dir))?.group)
}

fn never_in_a_group(dir: &Path) -> OpenError {
    OpenError::Refused(format!("{} is of a member that was never in a group: it holds nothing", dir.display()))
}

impl<A: App> Offline<A> {
    /// Opens it, which is refused while a process uses it, and brings the state up to the end of the log: with the
    /// majority gone nobody can say that those entries were not committed. Blocking.
    pub fn open(dir: &Path, app: Arc<A>) -> Result<Self, OpenError> {
        DataDir::require(dir)?;
        let storage = storage::open_at(dir, RaftTuning::default().state_cache_bytes, app.clone())?;
        let identity = storage.log.identity()?.ok_or_else(|| never_in_a_group(dir))?;
        let offline = Self { storage, app, identity };
        offline.replay()?;
        Ok(offline)
    }

    /// Its group and its name.
    pub fn identity(&self) -> (&str, &str) {
        (&self.identity.group, &self.identity.member)
    }

    fn replay(&self) -> Result<(), FatalError> {
        let Some(last) = self.storage.log.last().map(|id| id.index()) else { return Ok(()) };
        loop {
            let next = self.storage.state.last_applied().map_or(0, |id| id.index() + 1);
            if next > last {
                return Ok(());
            }
            let entries = self.storage.log.read(next, last + 1, CHUNK_BYTES)?;
            if entries.is_empty() {
                return Err(FatalError(format!("the log has a hole at index {next}")));
            }
            self.storage.state.apply_offline(&entries)?;
        }
    }

    /// The stream, as a running member gives it.
    pub async fn backup(&self) -> Result<BackupStream, FatalError> {
        let handle = self.storage.state.checkpoint().await?;
        take::send(self.app.clone(), &self.identity, handle).await
    }
}
