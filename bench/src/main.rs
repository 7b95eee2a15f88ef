//! `conflux-bench`: a federation and a three-member etcd on one machine, driven with the same load in alternating windows, so
//! that whatever else the machine does hurts both alike. What counts are the ratios of one run.
//!
//! `run` measures and writes JSON; `report` makes the page of it. Nothing here is needed to run Conflux.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod compare;
mod conflux;
mod connection;
mod document;
mod etcd;
mod load;
mod machine;
mod process;
mod report;
mod results;
mod scenario;
mod statistics;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Measures Conflux against etcd on this machine.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    conflux-bench run --conflux target/release/conflux --quick\n  \
    conflux-bench run --conflux target/release/conflux --only fetch,change\n  \
    conflux-bench report"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start both, drive both, write what was measured as JSON. Takes about ten minutes.
    Run(Run),
    /// Make the page of what was measured.
    Report(Report),
}

/// What is measured, and how long.
#[derive(clap::Args)]
pub struct Run {
    /// The binary that is measured; one of a release build.
    #[arg(long, default_value = "target/release/conflux")]
    conflux: PathBuf,
    /// etcd's binary.
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// Where both keep their data, each in a new directory that is removed afterwards. Default: the system's temporary directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where the JSON goes; scenarios that are not measured now are kept from it.
    #[arg(long, default_value = "docs/benchmarks.json")]
    results: PathBuf,
    /// Only these, of `fetch`, `change`, `watch`, `leader`, `moves`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<scenario::Kind>,
    /// About a minute: fewer and shorter rounds, fewer watchers, kills and moves.
    #[arg(long)]
    quick: bool,
    /// Windows of each side in a comparison.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of one window.
    #[arg(long, default_value_t = 3000)]
    window_ms: u64,
    /// How many watchers.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000")]
    watchers: Vec<usize>,
    /// Seconds of changes for each number of watchers.
    #[arg(long, default_value_t = 20)]
    watch_s: u64,
    /// Leaders killed on each side.
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// Moves of a tenant under writes.
    #[arg(long, default_value_t = 10)]
    moves: usize,
    /// Values of 256 B and 16 KiB too.
    #[arg(long)]
    sizes: bool,
    /// What the reader must know of this run: who else used the machine, how the binary was built.
    #[arg(long, default_value = "")]
    note: String,
}

impl Run {
    fn shortened(mut self) -> Self {
        if self.quick {
            self.rounds = self.rounds.min(2);
            self.window_ms = self.window_ms.min(1000);
            self.watchers = vec![100];
            self.watch_s = self.watch_s.min(4);
            self.kills = self.kills.min(2);
            self.moves = self.moves.min(2);
        }
        self
    }

    fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    fn wants(&self, kind: scenario::Kind) -> bool {
        self.only.is_empty() || self.only.contains(&kind)
    }
}

/// From where to where.
#[derive(clap::Args)]
struct Report {
    /// What `run` wrote.
    #[arg(long, default_value = "docs/benchmarks.json")]
    results: PathBuf,
    /// The page.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    // The first of the process; another one is not there to be kept.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().command {
        Command::Run(run) => scenario::run(run.shortened()).await,
        Command::Report(report) => {
            let results = results::Results::read(&report.results)?;
            std::fs::write(&report.page, report::page(&results))
                .with_context(|| format!("writing {}", report.page.display()))
        }
    }
}
