//! Backups of one group: a checkpoint of a member's state as a stream, and a new data directory from one (ADR 4).
//!
//! | file | holds |
//! |---|---|
//! | `frames.rs` | how checkpoint, description and contents travel in one stream |
//! | `take.rs` | a running member makes such a stream |
//! | `rescue.rs` | the same from the directory of a member that does not run |
//! | `checkpoint.rs` | reading a checkpoint that was unpacked somewhere |
//! | `restore.rs` | a stream becomes the data directory of a member that never ran |

mod checkpoint;
mod frames;
mod rescue;
mod restore;
mod route;
mod take;

use serde::{Deserialize, Serialize};

pub use self::{
    checkpoint::{Checkpoint, Files},
    frames::{BadFrames, Frame, FrameReader, MAX_FRAME},
    rescue::{Offline, group_of},
    restore::{Origin, Restoring},
    take::BackupStream,
};
pub(crate) use self::{
    restore::RESTORING,
    route::{serve, slots},
};

/// What a backup of a group is of. Everything in it comes from inside the checkpoint, or from the member's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The federation.
    pub cluster: String,
    /// The group.
    pub group: String,
    /// Of the group's birth, in hex: two groups of one name differ in it.
    pub founding: String,
    /// Which member it was taken on.
    pub member: String,
    /// That member's Raft node id.
    pub node_id: u64,
    /// How far the state had come.
    pub position: Position,
    /// Bytes of the packed checkpoint.
    pub size: u64,
}

/// How far a state has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Term of the last applied entry.
    pub term: u64,
    /// The leader that logged it.
    pub leader: u64,
    /// Its index.
    pub index: u64,
    /// The replicated level.
    pub level: u32,
    /// Group time of the last command, in milliseconds since the Unix epoch.
    pub group_time_ms: u64,
}

/// What a group holds of one tenant; of placement: its record. Compared when a backup is verified, and by whoever
/// wants to know whether two states hold the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The tenant's id; 0: what belongs to no tenant.
    pub id: u64,
    /// Its name; empty where only a tombstone is left.
    pub name: String,
    /// Its state in that group's own words.
    pub state: String,
    /// In placement: the shard that holds it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shard: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its last revision; 0 in placement.
    pub revision: u64,
    /// Its rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// SHA-256 over them in key order, in hex. Of a shard without the row of counters, which the fields above tell.
    pub sha256: String,
}
