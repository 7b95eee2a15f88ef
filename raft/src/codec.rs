//! openraft's types as protobuf messages (`conflux.log.v1`), for the disk and for the wire.
//!
//! What was written by an older or newer binary must stay readable: fields are only added. A message that lacks what
//! it must have is an error, never a default.

use std::collections::BTreeMap;

use conflux_proto::log;
use openraft::{EntryPayload, entry::RaftEntry, vote::RaftLeaderId};
use prost::Message;

use crate::types::{Command, Entry, LeaderId, LogId, Membership, Node, SnapshotMeta, StoredMembership, Vote};

/// Why a message cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not a protobuf message of this kind.
    #[error("{what} cannot be decoded: {source}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// What protobuf said.
        source: prost::DecodeError,
    },
    /// A part that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The parts contradict one another.
    #[error("a membership is not valid: {0}")]
    Membership(String),
}

impl From<CodecError> for std::io::Error {
    fn from(e: CodecError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, e)
    }
}

/// To protobuf.
pub fn log_id_to_proto(id: &LogId) -> log::LogId {
    let leader = id.committed_leader_id();
    log::LogId { term: leader.term, node: leader.node_id, index: id.index() }
}

/// From protobuf.
pub fn log_id_from_proto(id: &log::LogId) -> LogId {
    LogId::new(LeaderId::new(id.term, id.node).to_committed(), id.index)
}

/// To protobuf.
pub fn vote_to_proto(vote: &Vote) -> log::Vote {
    log::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed, no_leader: false }
}

/// From protobuf.
pub fn vote_from_proto(vote: &log::Vote) -> Vote {
    match vote.committed {
        true => Vote::new_committed(vote.term, vote.node),
        false => Vote::new(vote.term, vote.node),
    }
}

/// To protobuf.
pub fn node_to_proto(node: &Node) -> log::Node {
    log::Node {
        member: node.member.clone(),
        raft_address: node.raft_address.clone(),
        service_address: node.service_address.clone(),
    }
}

/// From protobuf.
pub fn node_from_proto(node: &log::Node) -> Node {
    Node {
        member: node.member.clone(),
        raft_address: node.raft_address.clone(),
        service_address: node.service_address.clone(),
    }
}

/// To protobuf.
pub fn membership_to_proto(membership: &Membership) -> log::Membership {
    log::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|ids| log::NodeSet { ids: ids.iter().copied().collect() })
            .collect(),
        nodes: membership.nodes().map(|(id, node)| (*id, node_to_proto(node))).collect(),
    }
}

/// From protobuf. Every voter must have a node.
pub fn membership_from_proto(membership: &log::Membership) -> Result<Membership, CodecError> {
    let configs = membership.configs.iter().map(|set| set.ids.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, Node> = membership.nodes.iter().map(|(id, node)| (*id, node_from_proto(node))).collect();
    Membership::new(configs, nodes).map_err(|e| CodecError::Membership(e.to_string()))
}

/// To protobuf.
pub fn stored_membership_to_proto(stored: &StoredMembership) -> log::StoredMembership {
    log::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_proto),
        membership: Some(membership_to_proto(stored.membership())),
    }
}

/// From protobuf.
pub fn stored_membership_from_proto(stored: &log::StoredMembership) -> Result<StoredMembership, CodecError> {
    let membership = stored.membership.as_ref().ok_or(CodecError::Missing("the membership of a stored membership"))?;
    Ok(StoredMembership::new(stored.log_id.as_ref().map(log_id_from_proto), membership_from_proto(membership)?))
}

/// To protobuf; `id` names this copy of the snapshot and `size` is its size in bytes.
pub fn snapshot_meta_to_proto(meta: &SnapshotMeta, id: String, size: u64) -> log::SnapshotMeta {
    log::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(log_id_to_proto),
        membership: Some(stored_membership_to_proto(&meta.last_membership)),
        id,
        size,
    }
}

/// From protobuf.
pub fn snapshot_meta_from_proto(meta: &log::SnapshotMeta) -> Result<SnapshotMeta, CodecError> {
    let membership = meta.membership.as_ref().ok_or(CodecError::Missing("the membership of a snapshot"))?;
    Ok(SnapshotMeta {
        last_log_id: meta.last.as_ref().map(log_id_from_proto),
        last_membership: stored_membership_from_proto(membership)?,
    })
}

/// To protobuf.
pub fn entry_to_proto(entry: &Entry) -> log::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => log::log_entry::Payload::Blank(log::Blank {}),
        EntryPayload::Normal(command) => log::log_entry::Payload::Command(command.0.clone()),
        EntryPayload::Membership(membership) => log::log_entry::Payload::Membership(membership_to_proto(membership)),
    };
    log::LogEntry { id: Some(log_id_to_proto(&entry.log_id)), payload: Some(payload) }
}

/// From protobuf. Takes the message, so that a command's bytes are not copied.
pub fn entry_from_proto(entry: log::LogEntry) -> Result<Entry, CodecError> {
    let id = log_id_from_proto(entry.id.as_ref().ok_or(CodecError::Missing("the id of a log entry"))?);
    let payload = match entry.payload.ok_or(CodecError::Missing("the payload of a log entry"))? {
        log::log_entry::Payload::Blank(_) => EntryPayload::Blank,
        log::log_entry::Payload::Command(command) => EntryPayload::Normal(Command(command)),
        log::log_entry::Payload::Membership(membership) => {
            EntryPayload::Membership(membership_from_proto(&membership)?)
        }
    };
    Ok(Entry::new(id, payload))
}

/// Decodes a message of the disk.
pub fn decode<M: Message + Default>(what: &'static str, bytes: impl bytes::Buf) -> Result<M, CodecError> {
    M::decode(bytes).map_err(|source| CodecError::Malformed { what, source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn log_id() -> impl Strategy<Value = LogId> {
        any::<(u64, u64, u64)>().prop_map(|(term, node, index)| log_id_from_proto(&log::LogId { term, node, index }))
    }

    fn node() -> impl Strategy<Value = Node> {
        ("[a-z]{0,8}", "[a-z:0-9]{0,12}", ".{0,12}").prop_map(|(member, raft_address, service_address)| Node {
            member,
            raft_address,
            service_address,
        })
    }

    fn membership() -> impl Strategy<Value = Membership> {
        (proptest::collection::btree_map(any::<u64>(), node(), 1..6), 1usize..3, any::<u64>()).prop_map(
            |(nodes, sets, pick)| {
                let all: Vec<u64> = nodes.keys().copied().collect();
                let voters: BTreeSet<u64> = [all[pick as usize % all.len()], all[0]].into();
                Membership::new(vec![voters; sets], nodes).unwrap()
            },
        )
    }

    fn stored() -> impl Strategy<Value = StoredMembership> {
        (proptest::option::of(log_id()), membership()).prop_map(|(id, m)| StoredMembership::new(id, m))
    }

    fn payload() -> impl Strategy<Value = crate::types::Payload> {
        prop_oneof![
            Just(EntryPayload::Blank),
            (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..64))
                .prop_map(|(stamp, bytes)| EntryPayload::Normal(Command::app(stamp, Bytes::from(bytes)))),
            (any::<u64>(), any::<u32>()).prop_map(|(s, level)| EntryPayload::Normal(Command::raise_level(s, level))),
            (any::<u64>(), node()).prop_map(|(s, node)| EntryPayload::Normal(Command::admit(s, node))),
            membership().prop_map(EntryPayload::Membership),
        ]
    }

    proptest! {
        // What is appended must be what is read back, by this process or by the one that follows it.
        #[test]
        fn entries_round_trip(id in log_id(), payload in payload()) {
            let entry = Entry::new(id, payload);
            let bytes = entry_to_proto(&entry).encode_to_vec();
            let back = entry_from_proto(decode("entry", bytes.as_slice()).unwrap()).unwrap();
            prop_assert_eq!(back, entry);
        }

        // A vote that came back changed could be given twice.
        #[test]
        fn votes_round_trip(term: u64, node: u64, committed: bool) {
            let vote = Vote { leader_id: LeaderId::new(term, node), committed };
            prop_assert_eq!(vote_from_proto(&vote_to_proto(&vote)), vote);
        }

        // A snapshot's metadata decides what is purged and who votes.
        #[test]
        fn snapshot_metas_round_trip(last in proptest::option::of(log_id()), stored in stored(), size: u64) {
            let meta = SnapshotMeta { last_log_id: last, last_membership: stored };
            let proto = snapshot_meta_to_proto(&meta, "x".into(), size);
            prop_assert_eq!(snapshot_meta_from_proto(&proto).unwrap(), meta);
        }

        // Damaged bytes must be an error, not a panic: they come from a disk and from a network.
        #[test]
        fn any_bytes_are_refused_or_understood(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(entry) = decode::<log::LogEntry>("entry", bytes.as_slice()) {
                let _ = entry_from_proto(entry);
            }
        }
    }

    // An entry of a kind that this binary does not know must stop it: skipping it would make replicas differ.
    #[test]
    fn an_entry_without_a_known_payload_is_refused() {
        let id = Some(log::LogId { term: 1, node: 1, index: 1 });
        let e = entry_from_proto(log::LogEntry { id, payload: None }).unwrap_err();
        assert_eq!(e, CodecError::Missing("the payload of a log entry"));
    }

    // A voter without an address could not be reached.
    #[test]
    fn a_voter_without_a_node_is_refused() {
        let membership = log::Membership { configs: vec![log::NodeSet { ids: vec![1] }], nodes: Default::default() };
        assert!(matches!(membership_from_proto(&membership), Err(CodecError::Membership(_))));
    }
}
