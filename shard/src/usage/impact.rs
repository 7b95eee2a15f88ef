//! Whom new rules would reach: the label sets seen lately, under the rules that stand and under the new ones.

use std::time::Duration;

use conflux_common::{
    distinct::Distinct,
    labels::Labels,
    release::{ReleaseRule, evaluate},
};

use super::{ConfigSeen, LATELY};

/// What new rules would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impact {
    /// Each label set seen lately: those that would change first, then by the number of clients.
    pub label_sets: Vec<Reached>,
    /// Label sets that would change.
    pub changing: usize,
    /// About how many clients were seen, those included of which the labels were dropped.
    pub clients: u64,
    /// About how many clients would change, of those whose labels are known.
    pub clients_changing: u64,
    /// For how long this member has been told what is fetched.
    pub observed: Duration,
    /// How often a label set found no room, or was given up for another.
    pub dropped: u64,
    /// What the report does not know, in words; empty: nothing of note.
    pub notes: Vec<String>,
}

/// The clients with one set of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What they carry.
    pub labels: Labels,
    /// What they are served now.
    pub now: Option<u64>,
    /// What they would be served then.
    pub then: Option<u64>,
    /// About how many they are.
    pub clients: u64,
    /// Fetches seen.
    pub fetches: u64,
    /// How long ago the last fetch was.
    pub last: Duration,
}

impl Reached {
    /// Whether they would be served another version.
    pub fn changes(&self) -> bool {
        self.now != self.then
    }
}

/// What the rules `then` would change for the clients of this config that were seen lately, who are served by `now`.
pub fn of(config: u64, now: &[ReleaseRule], then: &[ReleaseRule], seen: &ConfigSeen) -> Impact {
    let mut changing = Distinct::default();
    let mut reached: Vec<Reached> = Vec::with_capacity(seen.label_sets.len());
    for known in &seen.label_sets {
        let of = |rules| evaluate(config, rules, &known.labels);
        let reach = Reached {
            labels: known.labels.clone(),
            now: of(now),
            then: of(then),
            clients: known.clients.estimate(),
            fetches: known.fetches,
            last: known.last,
        };
        if reach.changes() {
            changing.merge(&known.clients);
        }
        reached.push(reach);
    }
    reached.sort_by(|a, b| {
        let key = |r: &Reached| (!r.changes(), std::cmp::Reverse(r.clients));
        key(a).cmp(&key(b)).then_with(|| a.labels.cmp(&b.labels))
    });
    Impact {
        changing: reached.iter().filter(|r| r.changes()).count(),
        label_sets: reached,
        clients: seen.clients.estimate(),
        clients_changing: changing.estimate(),
        observed: seen.observed,
        dropped: seen.dropped,
        notes: notes(seen),
    }
}

/// Where the report is not the whole truth.
fn notes(seen: &ConfigSeen) -> Vec<String> {
    let mut notes = Vec::new();
    if seen.last.is_none() {
        notes.push("no fetch of this config has been seen: who would be reached is not known".to_owned());
    }
    if seen.observed < LATELY {
        notes.push(format!(
            "the replica that answers has been told of fetches for {} only: clients that asked before are missing",
            spoken(seen.observed)
        ));
    }
    if seen.dropped > 0 {
        notes.push(format!(
            "{} times a label set found no room or was given up for another: clients with such labels are counted in \
             `clients`, but not in `label_sets` and `clients_changing`",
            seen.dropped
        ));
    }
    notes
}

/// Durations for people: `45 s`, `12 min`, `3 h`.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
