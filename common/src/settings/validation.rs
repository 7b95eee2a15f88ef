//! Settings that are readable one by one, checked as a whole: every problem at once, each with its path.

use std::{collections::HashMap, fmt, net::SocketAddr, path::Path};

use tracing_subscriber::EnvFilter;

use super::{FounderSettings, LogSettings, MemberSettings, PlacementAddress, RaftTuning, TlsFiles};

/// One thing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `raft.heartbeat_ms`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
    within: Vec<String>,
}

impl Problems {
    /// A problem of the field.
    pub fn add(&mut self, field: &str, message: impl Into<String>) {
        let path = self.within.iter().map(String::as_str).chain([field]).collect::<Vec<_>>().join(".");
        self.found.push(Problem { path, message: message.into() });
    }

    /// A problem of the field unless it is right.
    pub fn require(&mut self, right: bool, field: &str, message: impl Into<String>) {
        if !right {
            self.add(field, message);
        }
    }

    /// Paths of what `check` finds begin with `part`.
    pub fn within(&mut self, part: impl Into<String>, check: impl FnOnce(&mut Self)) {
        self.within.push(part.into());
        check(self);
        self.within.pop();
    }

    /// `host:port`, as others are told to dial.
    pub fn address(&mut self, field: &str, text: &str) {
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, p)| p.parse::<u16>().ok());
        self.require(port.is_some_and(|port| port != 0), field, format!("{text:?} is not host:port"));
    }

    /// A directory or file that must not depend on where the process was started.
    pub fn absolute(&mut self, field: &str, path: &Path) {
        self.require(path.is_absolute(), field, format!("{} is not an absolute path", path.display()));
    }

    /// No two of the fields may say the same; port 0 is a new port each time and so never the same.
    pub fn distinct_listeners(&mut self, listeners: &[(&str, SocketAddr)]) {
        for (at, (field, address)) in listeners.iter().enumerate() {
            let twin = listeners[..at].iter().find(|(_, other)| collide(*other, *address));
            if let Some((other, _)) = twin {
                self.add(field, format!("{address} is taken by {other}; each needs a port of its own"));
            }
        }
    }

    /// No two elements of the list may have the same value. Give the field of each as `founders.0.member`.
    pub fn distinct(&mut self, values: impl IntoIterator<Item = (String, String)>) {
        let mut seen: HashMap<String, String> = HashMap::new();
        for (field, value) in values {
            if let Some(first) = seen.get(&value) {
                let message = format!("{value:?} is the same as {first}");
                self.add(&field, message);
            } else {
                seen.insert(value, field);
            }
        }
    }
}

/// Whether two sockets cannot both be bound: the same port, and the same address or one that means all.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// Settings that can be checked as a whole.
pub trait Validate {
    /// Adds every problem, not only the first.
    fn validate(&self, problems: &mut Problems);

    /// Every problem; none if the settings are right.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.validate(&mut problems);
        problems.found
    }
}

impl Validate for MemberSettings {
    fn validate(&self, problems: &mut Problems) {
        problems.absolute("data_dir", &self.data_dir);
        problems.require(
            self.data_dir.parent().is_some(),
            "data_dir",
            "the root of the file system is not a place for data",
        );
        problems.distinct_listeners(&[
            ("raft_listen", self.raft_listen),
            ("service_listen", self.service_listen),
            ("metrics_listen", self.metrics_listen),
        ]);
        advertised(problems, "raft", self.raft_listen, self.raft_advertise.as_deref());
        advertised(problems, "service", self.service_listen, self.service_advertise.as_deref());
        founders(problems, &self.founders);
        problems.within("tls", |problems| self.tls.validate(problems));
        problems.within("raft", |problems| self.raft.validate(problems));
        problems.within("log", |problems| self.log.validate(problems));
    }
}

/// What the others are told must be something that they can dial.
fn advertised(problems: &mut Problems, port: &str, listen: SocketAddr, advertise: Option<&str>) {
    let field = format!("{port}_advertise");
    match advertise {
        Some(text) => problems.address(&field, text),
        None => problems.require(
            !listen.ip().is_unspecified(),
            &field,
            format!("needed, since others cannot dial {listen} ({port}_listen)"),
        ),
    }
}

fn founders(problems: &mut Problems, founders: &[FounderSettings]) {
    problems.require(!founders.is_empty(), "founders", "at least one member must form the group");
    for (at, founder) in founders.iter().enumerate() {
        problems.within(format!("founders.{at}"), |problems| {
            problems.address("raft_address", &founder.raft_address);
            problems.address("service_address", &founder.service_address);
        });
    }
    let field = |at: usize, name: &str| format!("founders.{at}.{name}");
    problems.distinct(founders.iter().enumerate().map(|(at, f)| (field(at, "member"), f.member.to_string())));
    problems.distinct(founders.iter().enumerate().flat_map(|(at, f)| {
        [(field(at, "raft_address"), f.raft_address.clone()), (field(at, "service_address"), f.service_address.clone())]
    }));
}

impl Validate for [PlacementAddress] {
    /// Paths begin with the element's number; call it [within](Problems::within) the name of the list.
    fn validate(&self, problems: &mut Problems) {
        for (at, placement) in self.iter().enumerate() {
            problems.within(at.to_string(), |problems| problems.address("address", &placement.address));
        }
        problems.distinct(self.iter().enumerate().map(|(at, p)| (format!("{at}.member"), p.member.to_string())));
        problems.distinct(self.iter().enumerate().map(|(at, p)| (format!("{at}.address"), p.address.clone())));
    }
}

impl Validate for TlsFiles {
    /// Whether the files are there and fit is seen when they are loaded.
    fn validate(&self, problems: &mut Problems) {
        for (field, path) in [("cert", &self.cert), ("key", &self.key), ("ca", &self.ca)] {
            problems.require(!path.as_os_str().is_empty(), field, "a file is needed; there is no mode without TLS");
        }
        let crl = self.crl.as_ref();
        problems.require(crl.is_none_or(|path| !path.as_os_str().is_empty()), "crl", "leave it out to have no list");
        problems.require(self.ca != self.cert, "ca", "the certificate of this process is not the CA's");
    }
}

impl Validate for RaftTuning {
    fn validate(&self, problems: &mut Problems) {
        problems.require(self.heartbeat_ms > 0, "heartbeat_ms", "must be more than 0");
        // A single heartbeat that is late must not cost an election.
        problems.require(
            self.election_min_ms > self.heartbeat_ms.saturating_mul(2),
            "election_min_ms",
            format!("{} must be more than twice heartbeat_ms ({})", self.election_min_ms, self.heartbeat_ms),
        );
        problems.require(
            self.election_max_ms > self.election_min_ms,
            "election_max_ms",
            format!("{} must be more than election_min_ms ({})", self.election_max_ms, self.election_min_ms),
        );
        problems.require(self.snapshot_after_bytes > 0, "snapshot_after_bytes", "must be more than 0");
        problems.require(self.max_in_flight > 0, "max_in_flight", "must be more than 0, or nothing can be written");
        problems.require(
            self.max_in_flight_bytes >= 1 << 20,
            "max_in_flight_bytes",
            format!("{} must be at least 1 MiB (1048576), the size of a large write", self.max_in_flight_bytes),
        );
        problems.require(
            self.state_cache_bytes >= 8 << 20,
            "state_cache_bytes",
            format!("{} must be at least 8 MiB (8388608)", self.state_cache_bytes),
        );
        problems.require(
            (1..=10_000).contains(&self.confirm_every_ms),
            "confirm_every_ms",
            format!("{} must be 1 to 10000", self.confirm_every_ms),
        );
    }
}

impl Validate for LogSettings {
    fn validate(&self, problems: &mut Problems) {
        if let Err(error) = EnvFilter::try_new(&self.filter) {
            problems
                .add("filter", format!("{:?} is not a filter such as `info,conflux_raft=debug`: {error}", self.filter));
        }
    }
}
