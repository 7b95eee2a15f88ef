//! What the unit tests of this crate share: an application, entries, runtimes.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use conflux_proto::log;
use futures::stream;
use openraft::{
    EntryPayload,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
};
use parking_lot::Mutex;

use crate::{
    app::{self, App, Applied},
    codec,
    error::FatalError,
    log_store::LogStore,
    state_store::StateMachine,
    types::{Command, Entry, LogId, Membership, Node, Payload},
    view::{Read, Tx, View},
};

/// `set key value`, `del key`, `count key` (adds one to what is there), `stamp`, `fail`. The key `forbidden` breaks an
/// invariant.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) committed: Mutex<Vec<u64>>,
    pub(crate) replaced_with: Mutex<Vec<usize>>,
}

impl App for Notes {
    type Notice = u64;
    const LEVEL: u32 = 2;

    fn apply(&self, entry: &app::Entry<'_>, tx: &mut Tx<'_>) -> Result<Applied<u64>, FatalError> {
        let text = std::str::from_utf8(entry.command).unwrap();
        let mut words = text.splitn(3, ' ');
        let (verb, key) = (words.next().unwrap(), words.next().unwrap_or_default().as_bytes());
        let answer = match verb {
            "set" => {
                tx.put(key, words.next().unwrap().as_bytes());
                Bytes::new()
            }
            "del" => {
                tx.delete(key);
                Bytes::new()
            }
            "count" => {
                let before = tx.get(key)?.map_or(0, |v| String::from_utf8(v).unwrap().parse::<u64>().unwrap());
                let now = (before + 1).to_string();
                tx.put(key, now.as_bytes());
                now.into()
            }
            "stamp" => format!("{} {}", entry.stamp_ms, entry.level).into(),
            _ => return Err(FatalError("told to fail".into())),
        };
        Ok(Applied { answer, notices: vec![entry.index] })
    }

    fn committed(&self, notices: Vec<u64>) {
        self.committed.lock().extend(notices);
    }

    fn replaced(&self, view: &View<'_>) {
        let mut rows = 0;
        view.scan(&[], &[0xff], &mut |_, _| {
            rows += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        self.replaced_with.lock().push(rows);
    }

    fn check(&self, tx: &Tx<'_>) -> Result<(), String> {
        match tx.touched().any(|(key, _)| key == b"forbidden") {
            true => Err("a forbidden key".into()),
            false => Ok(()),
        }
    }
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    codec::log_id_from_proto(&log::LogId { term, node: 1, index })
}

pub(crate) fn entry(index: u64, payload: Payload) -> Entry {
    Entry { log_id: log_id(1, index), payload }
}

pub(crate) fn command(index: u64, text: &str) -> Entry {
    entry(index, EntryPayload::Normal(Command::app(index, Bytes::copy_from_slice(text.as_bytes()))))
}

/// Entries that set `k<index>`.
pub(crate) fn commands(indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(|index| command(index, &format!("set k{index} v{index}"))).collect()
}

pub(crate) fn membership(index: u64, voters: &[u64]) -> Entry {
    let nodes: std::collections::BTreeMap<u64, Node> = voters.iter().map(|id| (*id, Node::default())).collect();
    let membership = Membership::new(vec![voters.iter().copied().collect()], nodes).unwrap();
    entry(index, EntryPayload::Membership(membership))
}

/// Appends and waits for the sync.
pub(crate) async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    log.blocking_append(entries).await.unwrap();
}

/// Applies as one call of openraft.
pub(crate) async fn apply(machine: &mut StateMachine<Notes>, entries: Vec<Entry>) -> std::io::Result<()> {
    machine.apply(stream::iter(entries.into_iter().map(|entry| Ok((entry, None))))).await
}

pub(crate) async fn purge(log: &mut LogStore, index: u64) -> std::io::Result<()> {
    log.purge(log_id(1, index)).await
}

pub(crate) fn notes() -> Arc<Notes> {
    Arc::new(Notes::default())
}
