//! What a node tells of itself and its group.

use std::time::Duration;

/// How current the local state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The last applied log index.
    pub applied_index: u64,
    /// Since this node SENT the question whose quorum-confirmed answer it has applied (DESIGN section 7); `MAX` before
    /// the first answer.
    pub age: Duration,
}

/// The group as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GroupStatus {
    /// This node's id; 0 until it is a member.
    pub node_id: u64,
    /// `standby` (waits for founding or admission), `learner`, `follower`, `candidate`, `leader`, `stopped`.
    pub state: &'static str,
    /// The Raft term.
    pub term: u64,
    /// The leader's node id, where it is known.
    pub leader: Option<u64>,
    /// The last log index on this disk.
    pub last_log_index: u64,
    /// The last index known to be committed.
    pub committed_index: u64,
    /// The last applied index.
    pub applied_index: u64,
    /// The index of the last snapshot; 0: none.
    pub snapshot_index: u64,
    /// The last purged index; 0: none.
    pub purged_index: u64,
    /// The replicated level.
    pub level: u32,
    /// The highest level that this binary can apply.
    pub supported_level: u32,
    /// Of this binary.
    pub version: &'static str,
    /// Which birth of the group this node belongs to, in hex; empty until it is a member.
    pub founding: String,
    /// When this process opened its data, in milliseconds since the Unix epoch by its own clock.
    pub started_ms: u64,
    /// Room on this node's disk.
    pub disk: DiskStatus,
    /// The log index of the committed membership.
    pub membership_index: u64,
    /// When the state was restored from a backup, in milliseconds since the Unix epoch; 0: never.
    pub restored_ms: u64,
    /// All voters and learners.
    pub members: Vec<MemberStatus>,
}

impl GroupStatus {
    /// Of a process that is not a member yet.
    pub(crate) fn standby() -> Self {
        Self {
            node_id: 0,
            state: "standby",
            term: 0,
            leader: None,
            last_log_index: 0,
            committed_index: 0,
            applied_index: 0,
            snapshot_index: 0,
            purged_index: 0,
            level: 0,
            supported_level: 0,
            version: env!("CARGO_PKG_VERSION"),
            founding: String::new(),
            started_ms: 0,
            disk: DiskStatus::default(),
            membership_index: 0,
            restored_ms: 0,
            members: Vec::new(),
        }
    }
}

/// Room on the disk that holds a node's data directory; looked at every second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct DiskStatus {
    /// Bytes of log that are not purged.
    pub log_bytes: u64,
    /// Bytes of the state's files.
    pub state_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Its free part in percent.
    pub free_percent: u32,
    /// While this node leads, writes that grow the state are refused.
    pub refuses_growth: bool,
}

/// A voter or learner.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MemberStatus {
    /// Never used again.
    pub node_id: u64,
    /// Stable name.
    pub member: String,
    /// host:port of the Raft port.
    pub raft_address: String,
    /// host:port of the service port.
    pub service_address: String,
    /// Votes; else a learner.
    pub voter: bool,
    /// The last log index that it is known to have; only the leader knows.
    pub matched_index: Option<u64>,
    /// It answered a heartbeat within the last 2 s; only the leader knows.
    pub reachable: Option<bool>,
}
