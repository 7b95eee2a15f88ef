//! openraft's generics, made concrete once. Nothing outside this crate sees them.
//!
//! The storage half of the crate, as the node half sees it:
//!
//! ```text
//! storage::open(&MemberSettings, Arc<A>).await -> Storage<A> { log, state, dir, fatal }
//! log: LogStore            openraft's log; identity, size in bytes, purge point, reset of a founding that failed
//! state: StateHandle<A>    view, applied index, level, group time, admissions, received snapshots; machine() is openraft's
//! dir: DataDir             free space and the reserve
//! fatal: Fatal             failed().await, report(error)
//! snapshot                 SnapshotHandle::pack -> SnapshotReader; StateHandle::receive_snapshot -> SnapshotWriter
//! codec                    every type here to and from `conflux.log.v1`
//! ```
//!
//! The answer of an `admit` command is the new node id: 8 bytes, big endian ([`Answer::node_id`]).

use std::fmt;

use bytes::Bytes;
use conflux_proto::log;
use prost::Message;

openraft::declare_raft_types!(
    /// The types of every group.
    pub TypeConfig:
        D = Command,
        R = Answer,
        NodeId = u64,
        Node = Node,
        LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>,
);

/// A member's name and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Stable name.
    pub member: String,
    /// host:port of the Raft port.
    pub raft_address: String,
    /// host:port of the service port.
    pub service_address: String,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.member, self.raft_address)
    }
}

/// What a leader proposes.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(into = "Vec<u8>", try_from = "Vec<u8>")]
pub struct Command(pub log::Command);

impl Command {
    /// The application's own command.
    pub fn app(stamp_ms: u64, command: Bytes) -> Self {
        Self(log::Command { stamp_ms, body: Some(log::command::Body::App(command)) })
    }

    /// Raises the replicated level; a lower one has no effect.
    pub fn raise_level(stamp_ms: u64, level: u32) -> Self {
        Self(log::Command { stamp_ms, body: Some(log::command::Body::RaiseLevel(level)) })
    }

    /// Admits a member: it gets a node id from the index of this entry.
    pub fn admit(stamp_ms: u64, node: Node) -> Self {
        let node = crate::codec::node_to_proto(&node);
        Self(log::Command { stamp_ms, body: Some(log::command::Body::Admit(node)) })
    }

    /// Its size in bytes as it is logged.
    pub fn size(&self) -> usize {
        self.0.encoded_len()
    }

    fn kind(&self) -> &'static str {
        match &self.0.body {
            Some(log::command::Body::App(_)) => "app",
            Some(log::command::Body::RaiseLevel(_)) => "raise_level",
            Some(log::command::Body::Admit(_)) => "admit",
            None => "unknown",
        }
    }
}

impl From<Command> for Vec<u8> {
    fn from(command: Command) -> Self {
        command.0.encode_to_vec()
    }
}

impl TryFrom<Vec<u8>> for Command {
    type Error = prost::DecodeError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, prost::DecodeError> {
        log::Command::decode(bytes.as_slice()).map(Self)
    }
}

// Never the content: it may be large, and it is nobody's business in a log line.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.kind(), self.size())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying a command answered.
#[derive(Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(into = "Vec<u8>", from = "Vec<u8>")]
pub struct Answer(pub Bytes);

impl Answer {
    /// The answer of an `admit` command.
    pub(crate) fn of_node_id(id: u64) -> Self {
        Self(Bytes::copy_from_slice(&id.to_be_bytes()))
    }

    /// The node id that an `admit` command gave.
    pub fn node_id(&self) -> Option<u64> {
        self.0.as_ref().try_into().ok().map(u64::from_be_bytes)
    }
}

impl From<Answer> for Vec<u8> {
    fn from(answer: Answer) -> Self {
        answer.0.to_vec()
    }
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answer({} bytes)", self.0.len())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// (term, node) of a leader.
pub type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
/// Where an entry is, and whose it is.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// Whom this replica follows.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// An entry of the log.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// What is in an entry.
#[cfg(test)]
pub type Payload = openraft::alias::EntryPayloadOf<TypeConfig>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Node>;
/// A membership and the entry that set it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot holds.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot on this disk.
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, crate::snapshot::SnapshotHandle>;
