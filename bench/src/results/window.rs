//! The same load on several sides, window by window.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    process::Usage,
    scenario::Kind,
    statistics::{Spread, spread},
};

/// The same load on several sides in alternating windows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Comparison {
    pub kind: Kind,
    /// What is done, and what by the peer: `fetch stale / serializable range`.
    pub name: String,
    pub concurrency: usize,
    pub value_bytes: usize,
    /// Requests per second of an open loop; none: a closed loop.
    pub offered: Option<f64>,
    /// The last is the peer, against which the others are held.
    pub sides: Vec<Measured>,
}

/// One side's windows, in their order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    pub side: String,
    pub windows: Vec<Window>,
}

/// One side for some seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Window {
    pub seconds: f64,
    pub answered: u64,
    /// Of the bodies of what was answered.
    pub bytes: u64,
    pub failed: u64,
    pub failure: Option<String>,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// By group of processes; `driver` is the load itself.
    pub used: BTreeMap<String, Usage>,
    /// Share of the machine's processors that neither this side nor the load used: who else is there.
    pub others: f64,
}

impl Window {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// Processor microseconds of the servers for one answer.
    pub fn cpu_us(&self) -> f64 {
        self.of_servers(|used| used.cpu_s) * 1e6 / self.answered.max(1) as f64
    }

    /// Processor microseconds of one group of processes for one answer.
    pub fn cpu_us_of(&self, group: &str) -> f64 {
        self.used.get(group).map_or(0.0, |u| u.cpu_s) * 1e6 / self.answered.max(1) as f64
    }

    /// Bytes written by the servers for one answer.
    pub fn written(&self) -> f64 {
        self.of_servers(|used| used.written as f64) / self.answered.max(1) as f64
    }

    /// Resident bytes of the servers.
    pub fn resident(&self) -> f64 {
        self.of_servers(|used| used.resident as f64)
    }

    fn of_servers(&self, what: impl Fn(&Usage) -> f64) -> f64 {
        self.used.iter().filter(|(name, _)| *name != "driver").map(|(_, used)| what(used)).sum()
    }
}

impl Comparison {
    /// A side by its name.
    pub fn side(&self, name: &str) -> Option<&Measured> {
        self.sides.iter().find(|s| s.side == name)
    }

    /// Against what the others are held.
    pub fn peer(&self) -> Option<&Measured> {
        self.sides.last()
    }

    /// A side's figure to the peer's, round by round.
    pub fn ratio(&self, side: &Measured, what: impl Fn(&Window) -> f64) -> Option<Spread> {
        let peer = self.peer()?;
        spread(side.windows.iter().zip(&peer.windows).map(|(own, other)| what(own) / what(other)))
    }
}

impl Measured {
    /// Least, median and most of the rounds.
    pub fn spread(&self, what: impl Fn(&Window) -> f64) -> Spread {
        spread(self.windows.iter().map(what)).unwrap_or_default()
    }

    /// The median of the rounds.
    pub fn median(&self, what: impl Fn(&Window) -> f64) -> f64 {
        self.spread(what).median
    }

    /// Calls that failed in all rounds.
    pub fn failed(&self) -> u64 {
        self.windows.iter().map(|w| w.failed).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(answered: &[u64]) -> Vec<Window> {
        answered.iter().map(|n| Window { seconds: 1.0, answered: *n, ..Window::default() }).collect()
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // A round in which the machine was slow hurts both: the ratio of the medians would not see it.
        let own = Measured { side: "conflux".into(), windows: windows(&[100, 20, 300]) };
        let peer = Measured { side: "etcd".into(), windows: windows(&[50, 10, 100]) };
        let compared = Comparison {
            kind: Kind::Fetch,
            name: "a".into(),
            concurrency: 1,
            value_bytes: 1,
            offered: None,
            sides: vec![own, peer],
        };
        let ratio = compared.ratio(&compared.sides[0], Window::rate).unwrap();
        assert_eq!((ratio.least, ratio.median, ratio.most), (2.0, 2.0, 3.0));
    }
}
