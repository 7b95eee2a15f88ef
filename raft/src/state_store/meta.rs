//! What Raft keeps beside the application's rows, in a column family of its own, and in the same batches.
//!
//! | key | value |
//! |---|---|
//! | `last` | `log.LogId` of the last applied entry |
//! | `membership` | `log.StoredMembership` |
//! | `level` | u32, big endian |
//! | `stamp` | u64, big endian: group time of the last command in milliseconds |
//! | `base` | u64, big endian: the index of the snapshot from which this generation was made |
//! | `restored` | u64, big endian: when the state was restored from a backup, in milliseconds since the Unix epoch |
//! | `admitted/<member>` | node id and log index, u64 big endian each, then `log.Node` |

use conflux_proto::log;
use prost::Message;
use rocksdb::{ColumnFamily, DB, WriteBatch};

use crate::{
    backup::Position,
    codec,
    database::{cf, state_cf},
    error::FatalError,
    types::{LogId, SnapshotMeta, StoredMembership},
};

const LAST: &[u8] = b"last";
const MEMBERSHIP: &[u8] = b"membership";
const LEVEL: &[u8] = b"level";
const STAMP: &[u8] = b"stamp";
const BASE: &[u8] = b"base";
const RESTORED: &[u8] = b"restored";

/// The first node id that is given by admission: those below belong to founders.
const FIRST_ADMITTED: u64 = 1000;

/// Read once at the open, then kept in memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateMeta {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) level: u32,
    pub(crate) stamp_ms: u64,
    pub(crate) base: Option<u64>,
    /// 0: never.
    pub(crate) restored_ms: u64,
}

/// A member that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The Raft node id that it got: 1000 + the index of the entry.
    pub node_id: u64,
    /// The index of the entry that admitted it.
    pub index: u64,
    /// host:port of its Raft port, as it was proposed.
    pub raft_address: String,
    /// host:port of its service port, as it was proposed.
    pub service_address: String,
}

impl StateMeta {
    pub(crate) fn load(db: &DB) -> Result<Self, FatalError> {
        let meta = cf(db, state_cf::META)?;
        let last = last(db, meta)?;
        let membership = match db.get_cf(meta, MEMBERSHIP)? {
            Some(bytes) => {
                let stored = codec::decode::<log::StoredMembership>("the membership", bytes.as_slice());
                stored.and_then(|stored| codec::stored_membership_from_proto(&stored)).map_err(damaged)?
            }
            None => StoredMembership::default(),
        };
        let level = match db.get_cf(meta, LEVEL)? {
            Some(bytes) => u32::from_be_bytes(bytes.try_into().map_err(|_| damaged("the level"))?),
            None => 1,
        };
        let number = |key: &[u8]| number(db, meta, key);
        let (stamp_ms, restored_ms) = (number(STAMP)?.unwrap_or(0), number(RESTORED)?.unwrap_or(0));
        Ok(Self { last, membership, level, stamp_ms, base: number(BASE)?, restored_ms })
    }

    /// Adds all of it to a batch, but for the base and the time of the restore.
    pub(super) fn store(&self, db: &DB, batch: &mut WriteBatch) -> Result<(), FatalError> {
        let meta = cf(db, state_cf::META)?;
        if let Some(last) = &self.last {
            batch.put_cf(meta, LAST, codec::log_id_to_proto(last).encode_to_vec());
        }
        batch.put_cf(meta, MEMBERSHIP, codec::stored_membership_to_proto(&self.membership).encode_to_vec());
        batch.put_cf(meta, LEVEL, self.level.to_be_bytes());
        batch.put_cf(meta, STAMP, self.stamp_ms.to_be_bytes());
        Ok(())
    }

    pub(super) fn store_base(db: &DB, index: u64) -> Result<(), FatalError> {
        Ok(db.put_cf(cf(db, state_cf::META)?, BASE, index.to_be_bytes())?)
    }

    /// Marks a state that was restored: what is in it needs no log below.
    pub(crate) fn store_restored(&self, db: &DB, batch: &mut WriteBatch, restored_ms: u64) -> Result<(), FatalError> {
        let meta = cf(db, state_cf::META)?;
        batch.put_cf(meta, BASE, self.applied_index().to_be_bytes());
        batch.put_cf(meta, RESTORED, restored_ms.to_be_bytes());
        Ok(())
    }

    /// For backups.
    pub(crate) fn position(&self) -> Position {
        let (term, leader) = self.last.as_ref().map_or((0, 0), |id| {
            let leader = id.committed_leader_id();
            (leader.term, leader.node_id)
        });
        let (index, level, group_time_ms) = (self.applied_index(), self.level, self.stamp_ms);
        Position { term, leader, index, level, group_time_ms }
    }

    pub(crate) fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }

    /// 0: none.
    pub(crate) fn applied_index(&self) -> u64 {
        self.last.as_ref().map_or(0, |id| id.index())
    }

    pub(crate) fn next_index(&self) -> u64 {
        self.last.as_ref().map_or(0, |id| id.index() + 1)
    }
}

fn last(db: &DB, meta: &ColumnFamily) -> Result<Option<LogId>, FatalError> {
    let Some(bytes) = db.get_cf(meta, LAST)? else { return Ok(None) };
    let id = codec::decode::<log::LogId>("the last applied id", bytes.as_slice()).map_err(damaged)?;
    Ok(Some(codec::log_id_from_proto(&id)))
}

fn number(db: &DB, meta: &ColumnFamily, key: &[u8]) -> Result<Option<u64>, FatalError> {
    let Some(bytes) = db.get_cf(meta, key)? else { return Ok(None) };
    Ok(Some(u64::from_be_bytes(bytes.try_into().map_err(|_| damaged("a number"))?)))
}

fn admission_key(member: &str) -> Vec<u8> {
    [b"admitted/", member.as_bytes()].concat()
}

/// Adds the admission of a member by the entry at `index`; gives its new node id.
pub(super) fn admit(db: &DB, batch: &mut WriteBatch, index: u64, node: &log::Node) -> Result<u64, FatalError> {
    let node_id = FIRST_ADMITTED + index;
    let mut value = [node_id.to_be_bytes(), index.to_be_bytes()].concat();
    value.extend_from_slice(&node.encode_to_vec());
    batch.put_cf(cf(db, state_cf::META)?, admission_key(&node.member), value);
    Ok(node_id)
}

pub(super) fn admission(db: &DB, member: &str) -> Result<Option<Admission>, FatalError> {
    let Some(value) = db.get_cf(cf(db, state_cf::META)?, admission_key(member))? else { return Ok(None) };
    let parse = || {
        let (node_id, rest) = value.split_first_chunk::<8>()?;
        let (index, node) = rest.split_first_chunk::<8>()?;
        let log::Node { raft_address, service_address, .. } = log::Node::decode(node).ok()?;
        let (node_id, index) = (u64::from_be_bytes(*node_id), u64::from_be_bytes(*index));
        Some(Admission { node_id, index, raft_address, service_address })
    };
    parse().map(Some).ok_or_else(|| damaged(format!("the admission of {member}")))
}

fn damaged(what: impl ToString) -> FatalError {
    FatalError(format!("the state is damaged: {}", what.to_string()))
}
