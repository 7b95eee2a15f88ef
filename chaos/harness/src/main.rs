//! `conflux-chaos`: faults, load and checkers on real processes.
//!
//! A run has two phases. In the first, [`nemesis`] harms the federation by a schedule that [`plan`] makes of the seed, while
//! [`workload`] writes and reads. Then all is healed, open writes are settled by asking again under their keys, and [`inquest`] and
//! [`checks`] say whether everything that clients were told can be true. [`gate`] proves the harness itself: it must find planted bugs.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod campaign;
mod campaign_page;
mod checks;
mod child;
mod disks;
mod gate;
mod ground;
mod history;
mod inquest;
mod leaders;
mod linear;
mod nemesis;
mod plan;
mod quotas;
mod relay;
mod report;
mod run;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// Harms a federation while it is used, and says whether it kept its promises.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  conflux-chaos run                                   # a federation of its own for 3 minutes, a seed of its own
  conflux-chaos run --seed 42 --seconds 600           # the faults of seed 42, for ten minutes
  conflux-chaos run --federation .conflux-dev/federation.json
                                                      # one that runs: leaders are transferred and tenants moved, nothing is killed
  conflux-chaos run --fault power --fault 'flip bits'  # only these kinds
  conflux-chaos plan --seed 42                        # only shows what seed 42 would do
  conflux-chaos campaign --harm 7200 --seed 100 --jobs 4
                                                      # two hours of harm over many seeds, four at a time, and one page of all
  conflux-chaos gate --seconds 40 --jobs 2            # plants known bugs, each of which must be found (debug builds)

Exit status: 0 clean, 1 violated or undecided, 2 the run does not count or could not be done.
The binary under test is `conflux` beside this program; CONFLUX_BIN names another one.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Harms, loads, heals, checks, and writes a report.
    Run(Options),
    /// Runs many seeds, several at a time, and adds up what they come to.
    Campaign(campaign::Asked),
    /// Shows the schedule of a seed.
    Plan(Options),
    /// Runs once for each planted bug, in a debug build; each must be found.
    Gate(Planting),
}

/// What a run is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Of schedule and load; a new one where it is left out. It is printed, and stands in the report.
    #[arg(long)]
    seed: Option<u64>,
    /// How long harm is done; healing and checking come after it.
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// `federation.json` of one that runs already: only what any operator may ask is done to it.
    #[arg(long, value_name = "FILE")]
    federation: Option<PathBuf>,
    #[command(flatten)]
    load: Load,
}

/// What clients and faults are like, and where reports go: the same for every run of a campaign.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// Where reports, logs and, after a violation, all data are kept: a directory for each run.
    #[arg(long, value_name = "DIR", default_value = "chaos-reports")]
    out: PathBuf,
    /// Only faults whose kind has this in its name, as `plan` shows them; may be given several times. Tenants move all the same.
    #[arg(long, value_name = "WORDS")]
    fault: Vec<String>,
    /// A move is begun every so many milliseconds, instead of every 3 to 8 seconds.
    #[arg(long, value_name = "MS")]
    moves: Option<u64>,
    /// Calls a second that the clients aim at.
    #[arg(long, default_value_t = 600)]
    rate: u64,
    /// Below so many calls a second a run does not count.
    #[arg(long, default_value_t = 100)]
    least_rate: u64,
    /// Tenants of the run.
    #[arg(long, default_value_t = 2)]
    tenants: usize,
    /// Clients of each tenant.
    #[arg(long, default_value_t = 24)]
    clients: usize,
}

impl Load {
    /// All but where reports go, for a run that is started.
    fn arguments(&self) -> Vec<String> {
        let mut all = Vec::new();
        let numbers = [("--rate", self.rate), ("--least-rate", self.least_rate)];
        let counts = [("--tenants", self.tenants as u64), ("--clients", self.clients as u64)];
        let moves = self.moves.map(|ms| ("--moves", ms));
        for (name, number) in numbers.into_iter().chain(counts).chain(moves) {
            all.extend([name.to_owned(), number.to_string()]);
        }
        for words in &self.fault {
            all.extend(["--fault".to_owned(), words.clone()]);
        }
        all
    }

    /// The same, for people and their shells.
    fn in_words(&self) -> String {
        let quoted = |word: String| if word.contains(' ') { format!("'{word}'") } else { word };
        self.arguments().into_iter().map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// What the gate is told.
#[derive(Debug, Args)]
struct Planting {
    /// Of the schedule, for each bug.
    #[arg(long, default_value_t = 5)]
    seed: u64,
    /// How long harm is done with each bug.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Runs with each bug, the seed one higher each time, until one of them finds it: some show only where a fault meets a moment.
    #[arg(long, default_value_t = 3)]
    attempts: u64,
    /// Bugs at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    #[command(flatten)]
    load: Load,
    /// Only this planted bug; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Mounts become this program's own while it has one thread.
    let disks = match &command {
        Command::Run(options) if options.federation.is_none() => disks::prepare().map_err(|why| format!("{why:#}")),
        _ => Err("not asked for".into()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("conflux-chaos: {why}");
            return ExitCode::from(2);
        }
    };
    let done = runtime.block_on(async {
        match command {
            Command::Run(options) => run::run(options, disks).await,
            Command::Campaign(asked) => campaign::campaign(&asked).await,
            Command::Plan(options) => run::show_plan(&options),
            Command::Gate(options) => gate::gate(&options).await,
        }
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("conflux-chaos: {why:#}");
            ExitCode::from(2)
        }
    }
}
