//! The replicated application: what the Raft node calls.

use conflux_proto::log::PlacementCommand;
use conflux_raft::{App, Applied, Entry, FatalError, Tx, View, backup::Content};
use prost::Message;
use tokio::sync::watch;

use crate::{backup, invariants, machine, store::rows};

/// Placement's state machine. Its rows are in the node; in memory it holds only how far the changes have come.
pub struct Placement {
    last_change: watch::Sender<u64>,
}

impl Default for Placement {
    fn default() -> Self {
        Self { last_change: watch::Sender::new(0) }
    }
}

impl Placement {
    /// The sequence of the last change that is committed here. Wakes on each new one, and when a snapshot replaced the
    /// state. The changes themselves are in the state: [`machine::history`].
    pub fn last_change(&self) -> watch::Receiver<u64> {
        self.last_change.subscribe()
    }
}

impl App for Placement {
    /// The sequence of the change that the command made.
    type Notice = u64;
    /// 2: shards can be removed (`RemoveShard`, `GroupRecord.founding`).
    const LEVEL: u32 = 2;

    fn apply(&self, entry: &Entry<'_>, tx: &mut Tx<'_>) -> Result<Applied<u64>, FatalError> {
        let command = PlacementCommand::decode(entry.command)
            .map_err(|e| FatalError(format!("log entry {} is no placement command: {e}", entry.index)))?;
        let applied = machine::apply(tx, entry.stamp_ms, command)?;
        Ok(Applied { answer: applied.answer.encode_to_vec().into(), notices: applied.seq.into_iter().collect() })
    }

    fn committed(&self, notices: Vec<u64>) {
        if let Some(last) = notices.last() {
            self.last_change.send_replace(*last);
        }
    }

    fn replaced(&self, view: &View<'_>) {
        match rows::counters(view) {
            Ok(counters) => drop(self.last_change.send_replace(counters.change_seq)),
            Err(error) => tracing::error!(%error, "the counters of a new snapshot cannot be read"),
        }
    }

    fn contents(&self, view: &View<'_>) -> Result<Vec<Content>, FatalError> {
        backup::contents(view)
    }

    fn check(&self, tx: &Tx<'_>) -> Result<(), String> {
        invariants::check(tx)
    }
}
