//! Settings: defaults < file < environment < flags, then validated as a whole.

mod error;
mod given;
mod load;
mod validation;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use error::{Origin, SettingsError};
pub use load::{load, load_valid};
pub use validation::{Problem, Problems, Validate};

use crate::{
    ids::{ClusterName, GroupName, MemberName},
    tls::{PeerId, Role},
};

/// What each member of a Raft group (shard or placement) is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSettings {
    /// The federation; must be the one in the certificates.
    pub cluster: ClusterName,
    /// `placement`, or the shard's name.
    pub group: GroupName,
    /// This process. Stable over restarts and replacements of its disk.
    pub member: MemberName,
    /// Absolute. Holds `log/`, `state/`, `snapshots/` and a reserve file.
    pub data_dir: PathBuf,
    /// Where the other members of the group reach this one.
    pub raft_listen: SocketAddr,
    /// Where gateways, shards and placement reach this one.
    pub service_listen: SocketAddr,
    /// Plain HTTP for `/healthz`, `/readyz` and `/metrics`; loopback unless you mean it.
    pub metrics_listen: SocketAddr,
    /// host:port given to the others; default: this member's entry among the founders, else `raft_listen`.
    #[serde(default)]
    pub raft_advertise: Option<String>,
    /// host:port given to the others; default: this member's entry among the founders, else `service_listen`.
    #[serde(default)]
    pub service_advertise: Option<String>,
    /// The certificate of this process.
    pub tls: TlsFiles,
    /// The members that form the group when all of them are empty. The same list, in any order, on each.
    pub founders: Vec<FounderSettings>,
    /// Timers and bounds of consensus.
    #[serde(default)]
    pub raft: RaftTuning,
    /// What is logged and how.
    #[serde(default)]
    pub log: LogSettings,
}

/// A member of the first membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FounderSettings {
    /// Its name.
    pub member: MemberName,
    /// host:port of its Raft port.
    pub raft_address: String,
    /// host:port of its service port.
    pub service_address: String,
}

/// How to reach a member of placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementAddress {
    /// Its name.
    pub member: MemberName,
    /// host:port of its service port.
    pub address: String,
}

/// PEM files; read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key, PKCS #8.
    pub key: PathBuf,
    /// The federation's own CA (one or more roots).
    pub ca: PathBuf,
    /// Revocation lists of that CA; a file that is missing at the start is an empty list. Default: none.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

/// Timers and bounds of consensus. DESIGN section 3 says where the defaults come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaftTuning {
    /// Milliseconds between heartbeats of the leader. Default: 100.
    pub heartbeat_ms: u64,
    /// Shortest election timeout in milliseconds; more than two heartbeats. Default: 300.
    pub election_min_ms: u64,
    /// Longest election timeout in milliseconds. Default: 600.
    pub election_max_ms: u64,
    /// A snapshot is taken once the log holds so many bytes more than at the last one. Default: 256 MiB.
    pub snapshot_after_bytes: u64,
    /// At least so many bytes of applied log are kept for members that were away a short time. Default: 1 GiB.
    pub keep_log_bytes: u64,
    /// Writes proposed and not yet applied; further ones are refused at once with a retry hint. Default: 4096.
    pub max_in_flight: usize,
    /// Bytes of proposed and not yet applied writes. Default: 64 MiB.
    pub max_in_flight_bytes: usize,
    /// Milliseconds between two questions of a replica how fresh it is. Default: 200.
    pub confirm_every_ms: u64,
    /// Bytes of the state's rows that are kept in memory, uncompressed, once they were read; at least 8388608 (8 MiB). Default: 64 MiB.
    pub state_cache_bytes: usize,
}

impl Default for RaftTuning {
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_min_ms: 300,
            election_max_ms: 600,
            snapshot_after_bytes: 256 << 20,
            keep_log_bytes: 1 << 30,
            max_in_flight: 4096,
            max_in_flight_bytes: 64 << 20,
            confirm_every_ms: 200,
            state_cache_bytes: 64 << 20,
        }
    }
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// `json` for machines, `text` for people. Default: `json`.
    pub format: LogFormat,
    /// tracing's filter syntax: `info`, or `info,conflux_raft=debug`. Default: `info,rustls=error`, since rustls warns of what any
    /// client may send in its handshake. `RUST_LOG` wins over it.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Json, filter: "info,rustls=error".into() }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl MemberSettings {
    /// host:port under which the group reaches this member: as told, else as the founders name it, else where it listens.
    pub fn raft_address(&self) -> String {
        let named = || self.own_founder().map(|f| f.raft_address.clone());
        self.raft_advertise.clone().or_else(named).unwrap_or_else(|| self.raft_listen.to_string())
    }

    fn own_founder(&self) -> Option<&FounderSettings> {
        self.founders.iter().find(|f| f.member == self.member)
    }

    /// Whether a certificate is that of this member; if not, what to change. A process that goes on with another's
    /// certificate would be refused by everybody, which is harder to understand.
    pub fn check_certificate(&self, own: &PeerId, role: Role) -> Result<(), String> {
        let wanted = PeerId {
            cluster: self.cluster.clone(),
            role,
            group: role.has_group().then(|| self.group.clone()),
            member: self.member.clone(),
        };
        if *own == wanted {
            return Ok(());
        }
        let file = self.tls.cert.display();
        Err(format!("the certificate {file} is of {own}, but the settings (cluster, group, member) say {wanted}"))
    }

    /// host:port under which gateways reach this member; chosen likewise.
    pub fn service_address(&self) -> String {
        let named = || self.own_founder().map(|f| f.service_address.clone());
        self.service_advertise.clone().or_else(named).unwrap_or_else(|| self.service_listen.to_string())
    }
}
