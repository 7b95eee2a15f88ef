//! Many seeds, several at a time, until a given sum of harm is done; and what they come to together.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::{
    Load, campaign_page,
    child::{self, Child, Summary},
};

/// What a campaign is told.
#[derive(Debug, Args)]
pub struct Asked {
    /// Seconds of harm in all.
    #[arg(long, default_value_t = 7200)]
    harm: u64,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// The longest run in seconds of harm.
    #[arg(long, default_value_t = 480)]
    longest: u64,
    /// Begins no more runs after one that is violated.
    #[arg(long)]
    stop_on_violation: bool,
    #[command(flatten)]
    load: Load,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct Row {
    pub seed: u64,
    /// None: it could not be done.
    pub run: Option<Summary>,
    /// Of its report and its words, from the page.
    pub directory: String,
    pub log: String,
}

/// What is to be reached, and what was.
#[derive(Debug, Serialize)]
pub struct Line {
    pub what: &'static str,
    pub reached: f64,
    pub wanted: f64,
    /// `wanted` is the most that may be, not the least.
    pub at_most: bool,
}

impl Line {
    /// Whether it is reached.
    pub fn is_reached(&self) -> bool {
        if self.at_most { self.reached <= self.wanted } else { self.reached >= self.wanted }
    }
}

/// All that is known of a campaign.
#[derive(Debug, Serialize)]
pub struct Campaign {
    pub seed: u64,
    /// Does it again.
    pub command: String,
    pub took_seconds: u64,
    /// Every run is clean, and counts.
    pub clean: bool,
    pub lines: Vec<Line>,
    pub runs: Vec<Row>,
}

/// So many runs of so many seconds: none longer than `longest`, and no job idle while another one has two left.
fn shares(harm: u64, longest: u64, jobs: u64) -> (u64, u64) {
    let runs = harm.div_ceil(longest).next_multiple_of(jobs).min(harm.div_ceil(LEAST_SECONDS).max(1));
    (runs, harm.div_ceil(runs))
}

/// A run that is shorter sees hardly any fault.
const LEAST_SECONDS: u64 = 30;

/// Runs all seeds, writes the page, and says how it went by the exit status.
///
/// # Errors
/// Where its directory cannot be made, or a run cannot be started.
pub async fn campaign(asked: &Asked) -> Result<u8> {
    ensure!(asked.harm > 0 && asked.jobs > 0 && asked.longest > 0, "harm, jobs and the longest run begin at 1");
    let out = child::directory(&asked.load.out, &format!("campaign-{}", asked.seed))?;
    let (runs, seconds) = shares(asked.harm, asked.longest, asked.jobs as u64);
    println!("{runs} seeds from {} on, {seconds} s of harm each, {} at a time", asked.seed, asked.jobs);
    let (began, stopped, ended) = (Instant::now(), AtomicBool::new(false), AtomicUsize::new(0));
    let one = |seed: u64| {
        let (out, stopped, ended) = (&out, &stopped, &ended);
        async move {
            if stopped.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let child = Child { seed, seconds, load: &asked.load, out, bug: None };
            let run = child.run().await.with_context(|| format!("seed {seed}"))?;
            let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
            println!("{:>4} s  [{ended}/{runs}] seed {seed}: {}", began.elapsed().as_secs(), words(run.as_ref()));
            if asked.stop_on_violation && run.as_ref().is_some_and(|run| run.violations() > 0) {
                stopped.store(true, Ordering::Relaxed);
            }
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            anyhow::Ok(Some(Row { seed, run, directory: name(&child.directory()), log: name(&child.log()) }))
        }
    };
    let seeds = stream::iter(asked.seed..asked.seed + runs).map(one).buffer_unordered(asked.jobs);
    let rows: Vec<Option<Row>> = seeds.try_collect().await?;
    let whole = rows.iter().all(Option::is_some);
    let mut runs: Vec<Row> = rows.into_iter().flatten().collect();
    runs.sort_by_key(|row| row.seed);
    let clean = whole && runs.iter().all(|row| row.run.as_ref().is_some_and(|run| run.verdict == "clean"));
    let command = command_of(asked);
    let (lines, took_seconds) = (lines(&runs), began.elapsed().as_secs());
    let campaign = Campaign { seed: asked.seed, command, took_seconds, clean, lines, runs };
    campaign_page::write(&campaign, &out)?;
    tell(&campaign, &out);
    let violated = campaign.runs.iter().filter_map(|row| row.run.as_ref()).any(|r| r.violations() + r.undecided() > 0);
    Ok(match (clean, violated) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    })
}

fn words(run: Option<&Summary>) -> String {
    let Some(run) = run else { return "could not be done".into() };
    format!(
        "{}, {} calls ({:.0}/s), {} checked, {} watch events, {} faults ({} power losses), {} moves, {} under fault",
        run.verdict,
        run.calls,
        run.calls_per_second,
        run.checked,
        run.watch_events,
        run.faults(),
        run.power_losses(),
        run.moves_done,
        run.moves_under_fault
    )
}

/// What a campaign of two hours is to reach, and what this one has.
fn lines(rows: &[Row]) -> Vec<Line> {
    let runs: Vec<&Summary> = rows.iter().filter_map(|row| row.run.as_ref()).collect();
    let sum = |of: &dyn Fn(&Summary) -> u64| runs.iter().map(|run| of(run)).sum::<u64>() as f64;
    let kinds: BTreeSet<&String> = runs.iter().flat_map(|run| run.faults_by_kind.keys()).collect();
    let slowest = runs.iter().map(|run| run.calls_per_second).fold(f64::INFINITY, f64::min);
    let least = |what, reached, wanted| Line { what, reached, wanted, at_most: false };
    let none = |what, reached| Line { what, reached, wanted: 0.0, at_most: true };
    vec![
        least("seconds of harm", sum(&|r| r.seconds), 7_200.0),
        least("operations checked for linearizability", sum(&|r| r.checked), 500_000.0),
        least("faults", sum(&Summary::faults), 300.0),
        least("kinds of faults", kinds.len() as f64, 15.0),
        least("moves done under fault", sum(&|r| r.moves_under_fault), 100.0),
        least("watch events checked", sum(&|r| r.watch_events), 500_000.0),
        least("power losses", sum(&Summary::power_losses), 50.0),
        least("calls a second in the slowest run", if slowest.is_finite() { slowest } else { 0.0 }, 100.0),
        none("violations", sum(&Summary::violations)),
        none("undecided verdicts and writes left open", sum(&Summary::undecided)),
        none("runs that could not be done", rows.iter().filter(|row| row.run.is_none()).count() as f64),
    ]
}

fn command_of(asked: &Asked) -> String {
    let Asked { harm, seed, jobs, longest, load, .. } = asked;
    let load = load.in_words();
    format!("conflux-chaos campaign --harm {harm} --seed {seed} --jobs {jobs} --longest {longest} {load}")
}

fn tell(campaign: &Campaign, out: &Path) {
    for line in &campaign.lines {
        let word = if line.is_reached() { "" } else { "  not reached" };
        let most = if line.at_most { "at most" } else { "of" };
        println!("{:>10.0} {most} {:>7}  {}{word}", line.reached.floor(), line.wanted, line.what);
    }
    let verdict = if campaign.clean { "clean" } else { "NOT CLEAN" };
    let page = out.join("campaign.html");
    println!("{verdict}, {} runs in {} s; page: {}", campaign.runs.len(), campaign.took_seconds, page.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours on four jobs must not leave three of them idle at the end, and little harm is not cut into nothing.
    #[test]
    fn harm_is_shared_out() {
        assert_eq!(shares(7200, 480, 4), (16, 450));
        assert_eq!(shares(600, 480, 1), (2, 300));
        assert_eq!(shares(240, 480, 4), (4, 60));
        assert_eq!(shares(20, 480, 4), (1, 20));
    }

    /// A sum that leaves a run out would call too little enough.
    #[test]
    fn all_runs_are_added_up() {
        let run = |kind: &str, rate| Summary {
            verdict: "clean".into(),
            seconds: 3_600,
            calls_per_second: rate,
            checked: 250_000,
            faults_by_kind: [(kind.to_owned(), 25)].into(),
            ..Summary::default()
        };
        let row = |seed, run| Row { seed, run, directory: String::new(), log: String::new() };
        let rows = [row(1, Some(run("power loss", 120.0))), row(2, Some(run("power loss at a vote", 99.0)))];
        let reached = |rows: &[Row], what: &str| {
            let lines = lines(rows);
            let line = lines.iter().find(|line| line.what == what).unwrap();
            (line.reached, line.is_reached())
        };
        assert_eq!(reached(&rows, "seconds of harm"), (7_200.0, true));
        assert_eq!(reached(&rows, "operations checked for linearizability"), (500_000.0, true));
        assert_eq!(reached(&rows, "power losses"), (50.0, true));
        assert_eq!(reached(&rows, "kinds of faults"), (2.0, false));
        assert_eq!(reached(&rows, "calls a second in the slowest run"), (99.0, false));
        assert_eq!(reached(&[row(3, None)], "runs that could not be done"), (1.0, false));
    }
}
