//! What is measured. After each scenario the JSON is written anew, so that a run that is cut short leaves what it has; one that
//! fails is told at the end, and the others are measured all the same.

pub mod change;
pub mod fetch;
mod growth;
mod leader;
mod mixed;
mod moves;
mod pair;
pub mod proxy;
mod shards;
mod start;
mod syncs;
mod watch;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::pair::Pair;
pub use self::pair::{CONFLUX, EDGE, ETCD};
use crate::{
    Run,
    machine::{Machine, check_disk, now},
    plan::{self, Plan},
    process,
    results::{Results, Took},
};

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Starts from nothing, and what idle processes use
    Start,
    /// Fetches against ranges
    Fetch,
    /// Durable changes against puts
    Change,
    /// Nineteen fetches to a change
    Mixed,
    /// The gateway beside nginx, before the same shard
    Proxy,
    /// Watchers told of changes
    Watch,
    /// The gap after a leader's death
    Leader,
    /// Changes of two shard groups
    Shards,
    /// The pause of a tenant that moves
    Moves,
    /// More and more configs
    Growth,
    /// Calls that force data to the disk
    Syncs,
}

impl Kind {
    /// As the command line names it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it is measured on the one federation and the one etcd that run side by side.
    fn on_the_pair(self) -> bool {
        matches!(self, Kind::Fetch | Kind::Change | Kind::Mixed | Kind::Proxy | Kind::Watch | Kind::Leader)
    }
}

/// What a scenario that starts its own processes needs.
pub struct Bench<'a> {
    pub run: &'a Run,
    pub plan: Plan,
    pub base: PathBuf,
}

/// Runs all that is wanted.
pub async fn run(run: &Run) -> Result<()> {
    let mut results = if run.results.exists() { Results::read(&run.results)? } else { Results::default() };
    results.began = now();
    results.machine = Machine::here();
    results.note = run.note.clone();
    results.conflux_version = version(&run.conflux, "--version").context("--conflux names a release build of it")?;
    results.etcd_version = version(&run.etcd, "--version").context("apt-get install etcd-server")?;
    let base = run.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&base).with_context(|| base.display().to_string())?;
    let plan = Plan::of(run);
    check_disk(&base, plan.disk)?;
    eprintln!("{} files may be open; data below {}", process::raise_open_files(), base.display());
    let bench = Bench { run, plan, base };
    let wanted = plan::kinds(run);
    let mut failed = Vec::new();
    // By itself before the pair runs, then all that use the pair, then the others: each with nothing beside it that it does not need.
    let mut pair: Option<Pair> = None;
    for kind in wanted {
        let (began, start) = (now(), Instant::now());
        eprintln!("== {} at {began}", kind.name());
        if !kind.on_the_pair() {
            pair = None;
        }
        let measured = measure(&bench, kind, &mut pair, &mut results).await;
        if let Err(error) = measured {
            eprintln!("{} failed: {error:#}", kind.name());
            failed.push(kind.name());
            // Whatever it has left is not what the next one expects.
            pair = None;
        }
        let seconds = start.elapsed().as_secs_f64();
        results.scenarios.insert(kind.name(), Took { began, seconds });
        results.write(&run.results)?;
        eprintln!("== {} took {seconds:.0} s", kind.name());
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    eprintln!("{} is written; `conflux-bench report` makes the page", run.results.display());
    Ok(())
}

async fn measure(bench: &Bench<'_>, kind: Kind, pair: &mut Option<Pair>, results: &mut Results) -> Result<()> {
    results.comparisons.retain(|c| c.kind != kind);
    if kind.on_the_pair() && pair.is_none() {
        *pair = Some(Pair::start(bench).await?);
    }
    match (kind, pair) {
        (Kind::Start, _) => start::measure(bench, results).await,
        (Kind::Shards, _) => shards::measure(bench, results).await,
        (Kind::Moves, _) => moves::measure(bench, results).await,
        (Kind::Growth, _) => growth::measure(bench, results).await,
        (Kind::Syncs, _) => syncs::measure(bench, results).await,
        (Kind::Fetch, Some(pair)) => fetch::measure(pair, results).await,
        (Kind::Change, Some(pair)) => change::measure(pair, results).await,
        (Kind::Mixed, Some(pair)) => mixed::measure(pair, results).await,
        (Kind::Proxy, Some(pair)) => proxy::measure(pair, bench, results).await,
        (Kind::Watch, Some(pair)) => watch::measure(pair, results).await,
        (Kind::Leader, Some(pair)) => leader::measure(pair, results).await,
        (_, None) => bail!("both sides run by now"),
    }
}

fn version(binary: &std::path::Path, flag: &str) -> Result<String> {
    let out = std::process::Command::new(binary).arg(flag).output();
    let out = out.with_context(|| format!("{} cannot be run", binary.display()))?;
    Ok(String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_owned())
}
