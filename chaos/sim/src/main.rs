//! Conflux in a simulated network, with simulated time and storage: the same seed gives the same run, byte for byte.

mod batch;
mod clients;
mod history;
mod invariants;
mod nemesis;
mod observe;
mod plan;
mod run;
mod world;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt};

/// Runs Conflux's own Raft nodes, shard and placement state machines and the reconciler of moves in a simulation, harms them by a
/// plan that the seed draws, and says whether all that clients were told can be true.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  conflux-sim run --seeds 1..2000 --jobs 2
  conflux-sim replay --seed 42 --trace /tmp/42.txt
  conflux-sim replay --seed 42 --trace /tmp/42.txt --log conflux=debug,openraft=debug
  conflux-sim plan --seed 42

Exit status: 0 clean, 1 violated, 2 it could not be done."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds, each in a process of its own.
    Run(RunArgs),
    /// Run one seed and show what happens.
    Replay(ReplayArgs),
    /// Show the faults of a seed.
    Plan {
        /// Which.
        #[arg(long)]
        seed: u64,
    },
    /// Run one seed in this process, in the current directory.
    #[command(hide = true)]
    One {
        #[arg(long)]
        seed: u64,
        /// Where the trace goes.
        #[arg(long)]
        trace: Option<PathBuf>,
        /// Show the trace meanwhile.
        #[arg(long)]
        aloud: bool,
        /// What is logged into it.
        #[arg(long, default_value = LOGGED)]
        log: Targets,
    },
}

/// What libraries say of themselves at every step is asked for by nobody: it would be half of the work.
const LOGGED: &str = "conflux=info";

/// What every run can be told.
#[derive(Args, Clone)]
struct Common {
    /// Plant this bug (common/src/planted.rs) in every process, to see whether it is found.
    #[arg(long, value_name = "BUG")]
    plant: Option<String>,
}

#[derive(Args)]
struct RunArgs {
    /// From which to which, both included: 1..2000, or one: 7.
    #[arg(long, value_name = "FROM..TO")]
    seeds: String,
    /// Seeds at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct ReplayArgs {
    /// Which.
    #[arg(long)]
    seed: u64,
    /// Write the trace here.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Show the trace while it runs.
    #[arg(long)]
    aloud: bool,
    /// What of the logs is in the trace.
    #[arg(long, default_value = LOGGED)]
    log: Targets,
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    match command(Cli::parse().command) {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(error) => {
            eprintln!("conflux-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is clean.
fn command(command: Command) -> Result<bool> {
    match command {
        Command::Run(args) => {
            let seeds = batch::seeds(&args.seeds)?;
            batch::run(seeds, args.jobs, args.keep_going, args.common.plant.as_deref())
        }
        Command::Replay(args) => {
            batch::replay(args.seed, args.trace, args.aloud, &args.log, args.common.plant.as_deref())
        }
        Command::Plan { seed } => {
            for planned in plan::plan(seed) {
                println!("{:>6} to {:>6} ms  {}", planned.from_ms, planned.to_ms, planned.fault);
            }
            Ok(true)
        }
        Command::One { seed, trace, aloud, log } => one(seed, trace, aloud, log),
    }
}

/// One seed, in a thread of its own: what a thread keeps for itself (the keys of hash maps, generators) is then drawn from the seed.
fn one(seed: u64, file: Option<PathBuf>, aloud: bool, log: Targets) -> Result<bool> {
    // It measures the machine's clocks against each other, for which time must pass.
    conflux_common::telemetry::install_metrics()?;
    let subscriber = tracing_subscriber::registry().with(log).with(world::trace::IntoTrace);
    tracing::subscriber::set_global_default(subscriber).context("the trace")?;
    world::trace::note_panics();
    let run = std::thread::Builder::new().name("simulation".into()).spawn(move || simulate(seed, file, aloud))?;
    let clean = run.join().map_err(|_| anyhow!("the simulation panicked"))??;
    // Threads that watch files and the like are of no use any more.
    std::process::exit(i32::from(!clean));
}

/// Prints one line of JSON. Whether all is clean.
fn simulate(seed: u64, file: Option<PathBuf>, aloud: bool) -> Result<bool> {
    if aloud {
        world::trace::aloud();
    }
    let outcome = run::run(seed);
    if let Some(file) = file {
        std::fs::write(&file, world::trace::text()).with_context(|| file.display().to_string())?;
    }
    let outcome = outcome?;
    let violations: Vec<_> =
        outcome.violations.iter().map(|v| json!({"invariant": v.invariant, "what": v.what})).collect();
    let line = json!({
        "seed": seed, "violations": violations, "totals": outcome.totals, "trace_sha256": world::trace::sha256(),
    });
    println!("{line}");
    Ok(outcome.violations.is_empty())
}
