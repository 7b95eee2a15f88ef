//! What is measured, in the order of its weight. After each scenario the JSON is written anew, so that a run that is cut short
//! leaves what it has.

mod change;
mod fetch;
mod leader;
mod moves;
mod watch;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    Run,
    compare::{Case, Side, compare},
    conflux::Federation,
    connection::Protocol,
    etcd::Etcd,
    load::{self, Requests, Shape},
    machine::Machine,
    results::Results,
};

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Fetches against ranges.
    Fetch,
    /// Durable changes against puts.
    Change,
    /// Watchers told of changes.
    Watch,
    /// The gap after a leader's death.
    Leader,
    /// The pause of a tenant that moves.
    Moves,
}

/// Configs and keys of each size.
const KEYS: u64 = 1000;

/// Both sides, running.
pub struct Pair<'a> {
    run: &'a Run,
    conflux: Federation,
    etcd: Etcd,
}

impl Pair<'_> {
    fn conflux_side(&self, requests: Requests, protocol: Protocol) -> Result<Side> {
        let endpoints = vec![self.conflux.endpoint(protocol)?];
        Ok(Side { endpoints, requests, processes: self.conflux.processes() })
    }

    fn etcd_side(&self, requests: Requests) -> Result<Side> {
        Ok(Side { endpoints: self.etcd.endpoints()?, requests, processes: self.etcd.processes() })
    }

    /// Puts every config and key of this size once.
    async fn fill(&self, size: usize) -> Result<()> {
        load::fill(&[self.conflux.endpoint(Protocol::Http2)?], &self.conflux.puts(size, KEYS, true), KEYS)
            .await
            .context("filling the federation")?;
        load::fill(&self.etcd.endpoints()?, &self.etcd.puts(size, KEYS, true), KEYS).await.context("filling etcd")
    }

    fn case(&self, kind: Kind, name: &str, value_bytes: usize, concurrency: usize) -> Case {
        let shape = Shape { concurrency, window: self.run.window(), offered: None };
        Case { kind, name: name.into(), value_bytes, shape, rounds: self.run.rounds }
    }

    /// Numbers of requests in flight.
    fn concurrencies(&self) -> &'static [usize] {
        if self.run.quick { &[64] } else { &[1, 64, 256] }
    }

    /// A closed loop at each concurrency, then an open loop with 64 at half the rate that the slower side has reached with 64.
    async fn loops(
        &self,
        results: &mut Results,
        kind: Kind,
        name: &str,
        size: usize,
        sides: (&Side, &Side),
    ) -> Result<()> {
        for concurrency in self.concurrencies() {
            results.comparisons.push(compare(self.case(kind, name, size, *concurrency), sides.0, sides.1).await?);
        }
        let reached = results.comparisons.iter().rfind(|c| c.name == name && c.concurrency == 64);
        let rates = reached.iter().flat_map(|c| &c.rounds).map(|r| r.conflux.rate().min(r.etcd.rate()));
        let slowest = rates.fold(f64::INFINITY, f64::min);
        if slowest.is_finite() && slowest > 1.0 {
            let mut case = self.case(kind, name, size, 64);
            case.shape.offered = Some((slowest / 2.0).round());
            results.comparisons.push(compare(case, sides.0, sides.1).await?);
        }
        Ok(())
    }
}

/// Runs all that is wanted.
pub async fn run(run: Run) -> Result<()> {
    let mut results = Results::read(&run.results).unwrap_or_default();
    results.began = crate::machine::now();
    results.machine = Machine::here();
    results.note = run.note.clone();
    results.conflux_version = version(&run.conflux, "--version")?;
    results.etcd_version = version(&run.etcd, "--version")?;
    let base = run.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&base)?;
    let compared = [Kind::Fetch, Kind::Change, Kind::Watch, Kind::Leader];
    if compared.iter().any(|kind| run.wants(*kind)) {
        let conflux = Federation::start(&run.conflux, &base, 1).await?;
        let etcd = Etcd::start(&run.etcd, &base).await?;
        let mut pair = Pair { run: &run, conflux, etcd };
        pair.fill(1024).await?;
        for kind in compared.into_iter().filter(|kind| run.wants(*kind)) {
            match kind {
                Kind::Fetch => fetch::measure(&pair, &mut results).await,
                Kind::Change => change::measure(&pair, &mut results).await,
                Kind::Watch => watch::measure(&pair, &mut results).await,
                Kind::Leader | Kind::Moves => leader::measure(&mut pair, &mut results).await,
            }
            .with_context(|| format!("{kind:?}"))?;
            results.write(&run.results)?;
        }
    }
    if run.wants(Kind::Moves) {
        moves::measure(&run, &base, &mut results).await?;
        results.write(&run.results)?;
    }
    eprintln!("{} is written; `conflux-bench report` makes the page", run.results.display());
    Ok(())
}

fn version(binary: &std::path::Path, flag: &str) -> Result<String> {
    let out = std::process::Command::new(binary).arg(flag).output();
    let out = out.with_context(|| format!("{} cannot be run", binary.display()))?;
    Ok(String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_owned())
}
