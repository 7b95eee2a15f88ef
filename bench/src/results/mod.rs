//! What was measured, as JSON.

mod window;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use self::window::{Comparison, Measured, Window};
use crate::{machine::Machine, process::Usage};

/// All of a run. What a run leaves out is kept from the one before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// UTC, when the last run began.
    pub began: String,
    pub machine: Machine,
    pub conflux_version: String,
    pub etcd_version: String,
    /// What whoever measured says of the run.
    pub note: String,
    /// Seconds that each scenario took, and when it began.
    pub scenarios: BTreeMap<String, Took>,
    pub comparisons: Vec<Comparison>,
    pub watches: Vec<Watches>,
    pub leader_kills: Vec<LeaderKills>,
    pub moves: Option<Moves>,
    pub growth: Vec<Grown>,
    pub starts: Vec<Starts>,
    pub syncs: Vec<Syncs>,
}

/// When a scenario was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Took {
    pub began: String,
    pub seconds: f64,
}

/// Watchers of one side while changes are made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Watches {
    /// `conflux` or `etcd`.
    pub side: String,
    /// How they are told: `sse`, `websocket`, `grpc`.
    pub transport: String,
    pub watchers: usize,
    /// Watchers that share a connection.
    pub per_connection: usize,
    /// Changes, and how many a second.
    pub changes: usize,
    pub changes_per_s: f64,
    /// Seconds to open all of them.
    pub opening_s: f64,
    /// Deliveries that did not come within the time.
    pub missing: u64,
    /// Watches that ended by themselves.
    pub ended: u64,
    /// Why it could not be measured.
    pub error: Option<String>,
    /// From the answer to the writer until the last watcher had it, in milliseconds.
    pub last_p50_ms: f64,
    pub last_p99_ms: f64,
    pub last_max_ms: f64,
    /// Resident bytes that each watcher added before anything was sent to it, by group of processes.
    pub idle_bytes_per_watcher: BTreeMap<String, f64>,
    /// The same after the changes.
    pub bytes_per_watcher: BTreeMap<String, f64>,
    pub used: BTreeMap<String, Usage>,
    pub seconds: f64,
}

/// Gaps after `kill -9` of a leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaderKills {
    pub side: String,
    /// From the kill to the first acknowledgement of a write that was sent after it, in milliseconds, in their order.
    pub gaps_ms: Vec<f64>,
}

/// Moves of a tenant under writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Moves {
    /// What the federation says of its own pauses.
    pub pauses_ms: Vec<f64>,
    /// From the request to the end of each.
    pub whole_ms: Vec<f64>,
    pub given_up: usize,
    pub writes: u64,
    pub refused: u64,
    pub refusal: Option<String>,
    pub write_p50_us: u64,
    pub write_p99_us: u64,
    /// The longest that one write was held.
    pub write_max_us: u64,
    /// Bytes of the tenant's contents before the writes.
    pub tenant_bytes: u64,
}

/// One side with so many configs or keys in it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Grown {
    pub side: String,
    pub entries: u64,
    pub versions: u64,
    /// Over which configs are spread; of no meaning to etcd.
    #[serde(default)]
    pub tenants: usize,
    pub value_bytes: usize,
    /// Seconds to put what is new since the size before, and how many puts of a value that were.
    pub loading_s: f64,
    pub loaded: u64,
    /// Processor seconds of the servers meanwhile.
    #[serde(default)]
    pub loading_cpu_s: f64,
    /// Uniform keys, one request in flight, and sixty-four.
    pub fetch_one: Vec<Window>,
    pub fetch: Vec<Window>,
    pub write: Vec<Window>,
    /// Of the largest member, after the load.
    pub resident: u64,
    /// Of the member that was restarted, as soon as it was ready.
    pub resident_restarted: u64,
    /// Of the largest member: all that it keeps, and its log and state where it tells them.
    pub disk: u64,
    pub log_bytes: f64,
    pub state_bytes: f64,
    /// Seconds from the start of a stopped follower until it is ready.
    pub restart_s: f64,
    /// A whole copy of a member's state, read as a stream: seconds and bytes.
    pub snapshot_s: f64,
    pub snapshot_bytes: u64,
}

/// Starts from nothing, and what is used while nobody asks for anything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Starts {
    pub side: String,
    /// From the start of the command to the first acknowledged write, in milliseconds, of each start.
    pub first_write_ms: Vec<f64>,
    pub idle_s: f64,
    /// Of the last start, by process.
    pub idle: BTreeMap<String, Usage>,
}

/// Calls that force data to the disk, counted by strace while changes are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Syncs {
    pub side: String,
    pub concurrency: usize,
    pub changes: u64,
    /// `fsync`, `fdatasync`, `sync_file_range`, `msync` of all processes of the side.
    pub syncs: u64,
}

impl Results {
    /// Reads what `run` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("reading {}: conflux-bench run makes it", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not of this version", path.display()))
    }

    /// Writes all of it anew.
    pub fn write(&self, path: &Path) -> Result<()> {
        let written = path.with_extension("json.new");
        std::fs::write(&written, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&written, path))
            .with_context(|| format!("writing {}", path.display()))
    }
}
