//! The two databases of a replica, opened together and checked against one another.

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use conflux_common::settings::MemberSettings;

use crate::{
    app::App,
    disk::{DataDir, Found},
    error::{FatalError, OpenError},
    fatal::Fatal,
    log_store::LogStore,
    state_store::StateHandle,
    types::LogId,
};

/// What a node is built on.
pub struct Storage<A: App> {
    /// The log, for openraft and for the node.
    pub log: LogStore,
    /// The state: reads, and the machine for openraft.
    pub state: StateHandle<A>,
    /// Free space and the reserve.
    pub dir: Arc<DataDir>,
    /// Where failures are reported.
    pub fatal: Fatal,
}

/// Opens the storage of a replica, making it in an empty directory. Refuses what was damaged, is a part only, or is of a
/// newer format; the text says what to do.
pub async fn open<A: App>(settings: &MemberSettings, app: Arc<A>) -> Result<Storage<A>, OpenError> {
    let (path, cache) = (settings.data_dir.clone(), settings.raft.state_cache_bytes);
    let opened = conflux_common::blocking::spawn_blocking(move || open_at(&path, cache, app)).await;
    opened.unwrap_or_else(|e| Err(FatalError(format!("opening the storage panicked: {e}")).into()))
}

pub(crate) fn open_at<A: App>(path: &Path, cache_bytes: usize, app: Arc<A>) -> Result<Storage<A>, OpenError> {
    let (dir, found) = DataDir::open(path)?;
    if found == Found::Empty {
        LogStore::create(&dir.log(), &dir.floor())?;
        StateHandle::<A>::create(&dir)?;
        dir.complete()?;
    }
    let dir = Arc::new(dir);
    let fatal = Fatal::new();
    let log = LogStore::open(&dir.log(), &dir.floor(), fatal.clone())?;
    let state = StateHandle::open(app, dir.clone(), cache_bytes, Some(log.durable()), fatal.clone())?;
    check(log.last(), log.purged(), state.last_applied(), state.base_index())?;
    let syncing = state.clone();
    log.before_purge(Box::new(move |index| syncing.sync_to(index)));
    Ok(Storage { log, state, dir, fatal })
}

/// The state was applied from this log: it cannot be ahead of its end, nor behind its beginning. Only a state that was just
/// installed from a snapshot may be ahead, until the log is purged up to it.
fn check(
    last: Option<LogId>,
    purged: Option<LogId>,
    applied: Option<LogId>,
    base: Option<u64>,
) -> Result<(), OpenError> {
    let next = |id: Option<LogId>| id.map_or(0, |id| id.index() + 1);
    let advice = "Do not restart this member with it: remove its data directory and let the group admit it anew";
    if next(applied) > next(last) && applied.map(|id| id.index()) != base {
        return Err(OpenError::Refused(format!(
            "the log ends at index {}, but index {} was applied from it: the log was damaged. {advice}",
            next(last).saturating_sub(1),
            next(applied) - 1
        )));
    }
    if next(purged) > next(applied) {
        return Err(OpenError::Refused(format!(
            "the state ends at index {}, but the log was purged up to {}: the state was damaged. {advice}",
            next(applied).saturating_sub(1),
            next(purged) - 1
        )));
    }
    Ok(())
}
