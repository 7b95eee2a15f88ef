//! `conflux-bench`: a federation and a three-member etcd on one machine, driven with the same load in alternating windows, so
//! that whatever else the machine does hurts both alike. What counts are the ratios of one run.
//!
//! `run` measures and writes JSON; `report` makes the page and its plots of it. Nothing here is needed to run Conflux.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod compare;
mod conflux;
mod connection;
mod document;
mod etcd;
mod load;
mod machine;
mod nginx;
mod plan;
mod process;
mod report;
mod results;
mod scenario;
mod statistics;
mod svg;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// The load shares the processors with what it measures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Conflux against etcd on this machine.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    conflux-bench run --conflux target/release/conflux --quick\n  \
    conflux-bench run --conflux target/release/conflux --only fetch,change\n  \
    conflux-bench run --full --skip growth --note \"nobody else on the machine\"\n  \
    conflux-bench run --only growth --growth 10000,100000,1000000 --data-dir /var/tmp\n  \
    conflux-bench report\n\n\
    Needs Debian's packages etcd-server, nginx-light (scenario proxy) and strace (scenario syncs)."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start both, drive both, write what was measured as JSON
    ///
    /// About a quarter of an hour; with --quick four minutes, with --full an hour and a half
    Run(Box<Run>),
    /// Make the page and its plots of what was measured
    Report(Report),
}

/// What is measured, and how long.
#[derive(clap::Args)]
pub struct Run {
    /// The binary that is measured; one of a release build
    #[arg(long, default_value = "target/release/conflux")]
    conflux: PathBuf,
    /// etcd's binary
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// nginx's binary
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// Where all keep their data, each in a new directory that is removed afterwards [default: the system's temporary directory]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where the JSON goes; scenarios that are not measured now are kept from it
    #[arg(long, default_value = "docs/benchmarks.json")]
    results: PathBuf,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    only: Vec<scenario::Kind>,
    /// All but these
    #[arg(long, value_delimiter = ',')]
    skip: Vec<scenario::Kind>,
    /// Four minutes: fewer and shorter rounds, fewer watchers, kills, moves, configs
    #[arg(long)]
    quick: bool,
    /// What the published page is made of: longer windows, 20,000 watchers, 50 kills, a million configs
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Fetches and changes with every number in flight (1, 16, 64, 256) at every size (256 B, 1, 16, 256 KiB)
    #[arg(long)]
    matrix: bool,
    /// Windows of each side in a comparison [default: 5; quick: 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Milliseconds of one window [default: 750; quick: 500, full: 3000]
    #[arg(long)]
    window_ms: Option<u64>,
    /// How many watchers [default: 100,1000,5000 over SSE, 1000 over the others; full: also 20000]
    #[arg(long, value_delimiter = ',')]
    watchers: Option<Vec<usize>>,
    /// Seconds of changes for each number of watchers [default: 10; full: 60]
    #[arg(long)]
    watch_s: Option<u64>,
    /// Leaders killed on each side [default: 10; full: 50]
    #[arg(long)]
    kills: Option<usize>,
    /// Moves of a tenant under writes [default: 10; full: 20]
    #[arg(long)]
    moves: Option<usize>,
    /// Numbers of configs, growing [default: 10000,50000; full: 10000,100000,1000000]
    #[arg(long, value_delimiter = ',')]
    growth: Option<Vec<u64>>,
    /// Versions of each config in growth [default: 1]
    #[arg(long)]
    versions: Option<u64>,
    /// Configs of a tenant in growth, at most, up to 100000
    #[arg(long, default_value_t = 10_000)]
    per_tenant: u64,
    /// The gateway setting that switches edge reads off; left out where this build does not know it
    #[arg(long, default_value = "edge.bytes=0")]
    edge_off: String,
    /// What the reader must know of this run: who else used the machine, how the binary was built
    #[arg(long, default_value = "")]
    note: String,
}

/// From where to where.
#[derive(clap::Args)]
struct Report {
    /// What `run` wrote
    #[arg(long, default_value = "docs/benchmarks.json")]
    results: PathBuf,
    /// The page; its plots go into a directory of its name
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    // The first of the process; another one is not there to be kept.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().command {
        Command::Run(run) => stoppable(&run).await,
        Command::Report(report) => report::write(&results::Results::read(&report.results)?, &report.page),
    }
}

/// A signal drops what runs: whatever was started is stopped then.
async fn stoppable(run: &Run) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = scenario::run(run) => done,
        _ = interrupt.recv() => bail!("interrupted; what was measured before is in {}", run.results.display()),
        _ = terminate.recv() => bail!("terminated; what was measured before is in {}", run.results.display()),
    }
}
