//! The verdicts. Each checker says what it looked at, and of what it found the first few in words.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::{
    history::{ABSENT, Ask, Call, Micros, Told, hash_of},
    linear,
    workload::of_set,
};

/// How many findings of a kind are put into words.
const TOLD: usize = 20;

/// What one checker says.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub checker: &'static str,
    /// What it looked at.
    pub looked_at: String,
    pub violations: usize,
    /// When the first of them came about, as far as it can be said.
    pub first_at: Option<Micros>,
    /// Neither right nor wrong within the means of the checker.
    pub undecided: usize,
    /// The first few in words.
    pub words: Vec<String>,
    /// The smallest history that shows the first violation of a register.
    pub history: Vec<Call>,
}

impl Finding {
    pub fn new(checker: &'static str) -> Self {
        let (looked_at, words, history) = (String::new(), Vec::new(), Vec::new());
        Self { checker, looked_at, violations: 0, first_at: None, undecided: 0, words, history }
    }

    /// One more violation.
    pub fn wrong(&mut self, words: impl FnOnce() -> String) {
        self.violations += 1;
        if self.words.len() < TOLD {
            self.words.push(words());
        }
    }

    /// The same, when it is known when it came about.
    pub fn wrong_at(&mut self, at: Micros, words: impl FnOnce() -> String) {
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
        self.wrong(words);
    }

    pub fn passed(&self) -> bool {
        self.violations == 0 && self.undecided == 0
    }
}

fn by_register(calls: &[Call]) -> BTreeMap<(usize, &str), Vec<&Call>> {
    let mut registers: BTreeMap<(usize, &str), Vec<&Call>> = BTreeMap::new();
    for call in calls {
        registers.entry((call.tenant, &call.register)).or_default().push(call);
    }
    registers
}

/// How many operations [`linearizability`] puts in order.
pub fn looked_at(calls: &[Call]) -> usize {
    calls.iter().filter(|c| c.part == 0 && linear::counts(c)).count()
}

/// Each register by itself is linearizable. The registers of a set are one: a changeset writes all of them at once.
pub fn linearizability(calls: &[Call]) -> Finding {
    let mut finding = Finding::new("linearizability of each register");
    let (looked_at, mut registers) = (looked_at(calls), 0);
    let mut sets: BTreeMap<(usize, &str), Vec<Call>> = BTreeMap::new();
    for call in calls.iter().filter(|c| c.part == 0) {
        sets.entry((call.tenant, of_set(&call.register))).or_default().push(call.clone());
    }
    for ((tenant, register), calls) in sets {
        registers += 1;
        match linear::check(&calls) {
            linear::Verdict::Linearizable => {}
            linear::Verdict::Undecided => finding.undecided += 1,
            linear::Verdict::Violation => {
                let smallest = linear::smallest(&calls);
                let at = smallest.iter().map(|c| c.ended).max().unwrap_or(0);
                let words = format!("tenant {tenant}, register {register}: no order makes all answers right");
                finding.wrong_at(at, || words);
                if finding.history.is_empty() {
                    finding.history = smallest;
                }
            }
        }
    }
    finding.looked_at = format!("{looked_at} calls on {registers} registers");
    finding
}

/// The highest revision acknowledged before a time, for one tenant.
struct Acknowledged(Vec<(Micros, u64)>);

impl Acknowledged {
    fn of<'a>(calls: impl Iterator<Item = &'a Call>) -> Self {
        let mut all: Vec<(Micros, u64)> = calls.filter_map(|c| Some((c.ended, c.wrote()?))).collect();
        all.sort_unstable();
        let mut highest = 0;
        for (_, revision) in &mut all {
            highest = highest.max(*revision);
            *revision = highest;
        }
        Self(all)
    }

    fn before(&self, time: Micros) -> u64 {
        let count = self.0.partition_point(|(ended, _)| *ended < time);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// Revisions follow real time, reads are no older than they say, and each read shows what its revision had.
pub fn freshness(calls: &[Call], tenants: usize) -> Finding {
    let mut finding = Finding::new("revisions and the age of reads");
    let (mut reads, mut writes) = (0, 0);
    for tenant in 0..tenants {
        let of_tenant = || calls.iter().filter(move |c| c.tenant == tenant);
        let acknowledged = Acknowledged::of(of_tenant());
        let mut values: HashMap<&str, BTreeMap<u64, u64>> = HashMap::new();
        let mut unknown: HashMap<&str, usize> = HashMap::new();
        let mut taken: HashMap<u64, &Call> = HashMap::new();
        for call in of_tenant() {
            match (call.writes(), call.wrote()) {
                (Some(value), Some(revision)) => {
                    writes += 1;
                    values.entry(&call.register).or_default().insert(revision, value);
                    if acknowledged.before(call.began) >= revision {
                        let words = "written under a revision that was over before it was asked";
                        finding.wrong_at(call.ended, || format!("{words}: {call:?}"));
                    }
                    // The writes of a changeset have one.
                    let twin = taken.insert(revision, call);
                    if let Some(twin) = twin.filter(|twin| twin.writes() != call.writes()) {
                        finding
                            .wrong_at(call.ended, || format!("two writes under one revision: {twin:?} and {call:?}"));
                    }
                }
                (Some(_), None) if call.told == Told::Open => *unknown.entry(&call.register).or_default() += 1,
                _ => {}
            }
        }
        for call in of_tenant() {
            let Told::Saw { value, revision, age_ms } = call.told else { continue };
            if revision == 0 {
                continue; // a 404 carries none
            }
            reads += 1;
            let (age_ms, floor) = match call.ask {
                // Ages are whole milliseconds: the true one may be almost one more.
                Ask::Stale { floor } => (age_ms + 1, floor),
                _ => (0, 0),
            };
            let owed = acknowledged.before(call.began.saturating_sub(age_ms * 1000)).max(floor);
            if revision < owed {
                let words = format!("older than it says: revision {owed} was acknowledged before");
                finding.wrong_at(call.ended, || format!("{words}: {call:?}"));
            }
            // A write of unknown revision may be what it saw.
            if unknown.contains_key(call.register.as_str()) {
                continue;
            }
            let at = values.get(call.register.as_str()).and_then(|v| v.range(..=revision).next_back());
            let had = at.map_or(ABSENT, |(_, value)| *value);
            if had != value {
                finding.wrong_at(call.ended, || format!("not what its revision had, which was {had}: {call:?}"));
            }
        }
    }
    finding.looked_at = format!("{reads} reads with a revision, {writes} writes");
    finding
}

/// One stored version of a register.
#[derive(Debug, Clone)]
pub struct Stored {
    pub number: u64,
    /// SHA-256 in hex.
    pub hash: String,
    /// Group time, in milliseconds since 1970.
    pub created_ms: u64,
}

/// How far group time may be ahead of a true clock: what a clock may be off its peers' median, and the time that an answer takes
/// is no part of it.
const AHEAD_MS: u64 = 2_500;

/// No version was made later than its writer was told of it: one wrong clock cannot push group time.
pub fn group_time(calls: &[Call], stored: &BTreeMap<(usize, String), Vec<Stored>>, began_ms: u64) -> Finding {
    let mut finding = Finding::new("group time");
    let (mut looked_at, mut most) = (0, 0);
    for ((tenant, register), calls) in by_register(calls) {
        let Some(versions) = stored.get(&(tenant, register.to_owned())) else { continue };
        let made: HashMap<u64, u64> = versions.iter().map(|v| (v.number, v.created_ms)).collect();
        for call in calls {
            let Told::Wrote { version, .. } = call.told else { continue };
            let Some(made) = made.get(&version) else { continue };
            looked_at += 1;
            let ahead = made.saturating_sub(began_ms + call.ended / 1000);
            most = most.max(ahead);
            if ahead > AHEAD_MS {
                finding.wrong_at(call.ended, || format!("{ahead} ms ahead of the true time: {call:?}"));
            }
        }
    }
    finding.looked_at = format!("{looked_at} writes, of which none is more than {most} ms ahead");
    finding
}

/// The stored versions of each register are its writes: each acknowledged one is at its number, none is there twice, none that
/// was said to have no effect, and nothing that nobody wrote.
pub fn versions(calls: &[Call], stored: &BTreeMap<(usize, String), Vec<Stored>>) -> Finding {
    let mut finding = Finding::new("acknowledged writes and version histories");
    let mut acknowledged = 0;
    for ((tenant, register), calls) in by_register(calls) {
        let at = format!("tenant {tenant}, register {register}");
        let empty = Vec::new();
        let versions = stored.get(&(tenant, register.to_owned())).unwrap_or(&empty);
        let by_number: HashMap<u64, &str> = versions.iter().map(|v| (v.number, v.hash.as_str())).collect();
        let mut writers: HashMap<String, &Call> = HashMap::new();
        for call in calls {
            let Some(value) = call.writes() else { continue };
            writers.insert(hash_of(value), call);
            let Told::Wrote { version, .. } = call.told else { continue };
            acknowledged += 1;
            if by_number.get(&version).copied() != Some(&hash_of(value)) {
                finding.wrong_at(call.ended, || format!("{at}: an acknowledged write is not there: {call:?}"));
            }
        }
        let mut numbers: Vec<u64> = by_number.keys().copied().collect();
        numbers.sort_unstable();
        if numbers.iter().zip(1..).any(|(has, wanted)| *has != wanted) || numbers.len() != versions.len() {
            finding.wrong(|| format!("{at}: version numbers are not dense from 1"));
        }
        let mut seen = HashMap::new();
        for version in versions {
            match writers.get(&version.hash) {
                None => finding.wrong(|| format!("{at}: nobody wrote version {}", version.number)),
                Some(call) if matches!(call.told, Told::NotApplied | Told::Refused) => {
                    let words = format!("{at}: version {} was said to have no effect", version.number);
                    finding.wrong_at(call.ended, || format!("{words}: {call:?}"));
                }
                Some(_) => {}
            }
            if let Some(twin) = seen.insert(&version.hash, version.number) {
                let words = format!("{at}: one write is there twice, as versions {twin} and {}", version.number);
                match writers.get(&version.hash) {
                    Some(call) => finding.wrong_at(call.ended, || words),
                    None => finding.wrong(|| words),
                }
            }
        }
    }
    finding.looked_at = format!("{acknowledged} acknowledged writes");
    finding
}

/// The registers that were written at a revision by a changeset.
pub type SetsAt = BTreeMap<u64, BTreeSet<String>>;

/// By tenant.
pub fn sets_at(calls: &[Call], tenant: usize) -> SetsAt {
    let mut sets = SetsAt::new();
    for call in calls.iter().filter(|c| c.tenant == tenant && of_set(&c.register) != c.register) {
        if let Some(revision) = call.wrote() {
            sets.entry(revision).or_default().insert(call.register.clone());
        }
    }
    sets
}

/// What a watcher was told, by revisions: what comes again is one of its own.
pub fn by_revision<'a>(told: impl Iterator<Item = (u64, &'a str)>) -> Vec<(u64, BTreeSet<&'a str>)> {
    let mut all: Vec<(u64, BTreeSet<&str>)> = Vec::new();
    for (revision, name) in told {
        match all.last_mut() {
            Some((last, names)) if *last == revision && !names.contains(name) => {
                names.insert(name);
            }
            _ => all.push((revision, [name].into())),
        }
    }
    all
}

/// A watcher was told of all registers of each changeset, and of one alone otherwise.
pub fn whole(watcher: &str, told: &[(u64, BTreeSet<&str>)], sets: &SetsAt, finding: &mut Finding) {
    for (revision, names) in told {
        let right = match sets.get(revision) {
            Some(set) => names.iter().map(|name| name.trim_end_matches(".json")).eq(set.iter().map(String::as_str)),
            None => true,
        };
        if !right {
            finding.wrong(|| format!("{watcher}: of revision {revision} only {names:?} were told"));
        }
    }
}

/// The registers of each set have the same history: version for version the same contents.
pub fn sets_agree(stored: &BTreeMap<(usize, String), Vec<Stored>>, finding: &mut Finding) {
    let mut first: BTreeMap<(usize, &str), (&str, Vec<&str>)> = BTreeMap::new();
    for ((tenant, register), versions) in stored {
        let set = of_set(register);
        if set == register {
            continue;
        }
        let mut numbered: Vec<(u64, &str)> = versions.iter().map(|v| (v.number, v.hash.as_str())).collect();
        numbered.sort_unstable();
        let hashes: Vec<&str> = numbered.into_iter().map(|(_, hash)| hash).collect();
        match first.get(&(*tenant, set)) {
            None => {
                first.insert((*tenant, set), (register, hashes));
            }
            Some((other, theirs)) if *theirs != hashes => {
                finding.wrong(|| format!("tenant {tenant}: {register} and {other} have other histories"));
            }
            Some(_) => {}
        }
    }
}

/// When a revision was made, as far as its writer knows.
pub type MadeAt = HashMap<u64, Micros>;

/// By tenant.
pub fn made_at(calls: &[Call], tenant: usize) -> MadeAt {
    calls.iter().filter(|c| c.tenant == tenant).filter_map(|c| Some((c.wrote()?, c.ended))).collect()
}

/// Each watcher has seen every revision after its first up to the last, once, in order.
pub fn sequence(watcher: &str, seen: &[u64], (from, last): (u64, u64), made: &MadeAt, finding: &mut Finding) {
    let mut wanted = from + 1;
    let wrong = |finding: &mut Finding, revision: u64, words: String| match made.get(&revision) {
        Some(at) => finding.wrong_at(*at, || words),
        None => finding.wrong(|| words),
    };
    for revision in seen {
        match *revision {
            r if r == wanted => wanted += 1,
            r if r < wanted => {
                wrong(finding, r, format!("{watcher}: revision {r} again, or out of order, before {wanted}"));
            }
            r => {
                wrong(finding, wanted, format!("{watcher}: revisions {wanted} to {} were never told", r - 1));
                wanted = r + 1;
            }
        }
    }
    if wanted <= last {
        let words = format!("{watcher}: nothing after revision {} though {last} is the last", wanted - 1);
        wrong(finding, wanted, words);
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
