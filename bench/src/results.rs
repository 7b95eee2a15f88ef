//! What was measured, as JSON.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{machine::Machine, process::Usage, scenario::Kind};

/// All of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// UTC, when it began.
    pub began: String,
    pub machine: Machine,
    pub conflux_version: String,
    pub etcd_version: String,
    /// What whoever measured says of the run.
    pub note: String,
    pub comparisons: Vec<Comparison>,
    pub watches: Vec<Watches>,
    pub leader_kills: Vec<LeaderKills>,
    pub moves: Option<Moves>,
}

/// The same load on both sides, window by window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    pub kind: Kind,
    /// What Conflux does, and what etcd does.
    pub name: String,
    pub concurrency: usize,
    pub value_bytes: usize,
    /// Requests per second of an open loop; none: a closed loop.
    pub offered: Option<f64>,
    pub rounds: Vec<Round>,
}

/// Two windows, one after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Round {
    pub conflux: Window,
    pub etcd: Window,
}

/// One side for some seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Window {
    pub seconds: f64,
    pub answered: u64,
    pub failed: u64,
    pub failure: Option<String>,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// By group of processes; `driver` is the load itself.
    pub used: BTreeMap<String, Usage>,
    /// Share of the machine's processors that neither side nor the load used: who else is there.
    pub others: f64,
}

impl Window {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// Processor microseconds of the servers for one answer.
    pub fn cpu_us(&self) -> f64 {
        let servers = self.used.iter().filter(|(name, _)| *name != "driver");
        servers.map(|(_, used)| used.cpu_s).sum::<f64>() * 1e6 / self.answered.max(1) as f64
    }

    /// Bytes written by the servers for one answer.
    pub fn written(&self) -> f64 {
        let servers = self.used.iter().filter(|(name, _)| *name != "driver");
        servers.map(|(_, used)| used.written).sum::<u64>() as f64 / self.answered.max(1) as f64
    }
}

/// Watchers of one side while changes are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Watches {
    /// `conflux` or `etcd`.
    pub side: String,
    pub watchers: usize,
    pub changes: usize,
    /// Seconds to open all of them.
    pub opening_s: f64,
    /// Deliveries that did not come within the time.
    pub missing: u64,
    /// From the answer to the writer until the last watcher had it, in milliseconds.
    pub last_p50_ms: f64,
    pub last_p99_ms: f64,
    pub last_max_ms: f64,
    /// Resident bytes that each watcher added, by group of processes.
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

impl Results {
    /// Reads what `run` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("reading {}: conflux-bench run makes it", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not of this version", path.display()))
    }

    /// Writes all of it anew.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| format!("writing {}", path.display()))
    }
}
