//! Proves the harness: with each planted bug a run must end in a violation.

use std::path::Path;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::{
    Load, Planting,
    child::{self, Child, Found, Summary},
};

/// A bug that `conflux_common::planted` knows.
#[derive(Debug, Clone, Copy, Serialize)]
struct Bug {
    name: &'static str,
    does: &'static str,
    /// The faults under which it shows: those whose kind has one of these words in it; none: all.
    under: &'static [&'static str],
    /// Milliseconds between moves, for what only a move shows.
    moves: Option<u64>,
}

const fn bug(name: &'static str, does: &'static str, under: &'static [&'static str]) -> Bug {
    Bug { name, does, under, moves: None }
}

/// One that shows when a tenant has moved.
const fn of_moves(name: &'static str, does: &'static str, under: &'static [&'static str]) -> Bug {
    Bug { name, does, under, moves: Some(2_000) }
}

const BUGS: [Bug; 24] = [
    bug("unconfirmed_read", "a linearizable read is answered by any replica, without a read barrier", &[]),
    bug("untold_age", "a stale read says that it is of this moment", &[]),
    bug("unconfirmed_age", "a replica that no quorum answers calls its state fresh", &["leader", "cut"]),
    bug("unwaited_revision", "a stale read does not wait for its min_revision", &["cut", "slow links", "pause"]),
    of_moves("unchecked_read", "a source goes on answering reads of a tenant that has moved", &["from placement"]),
    of_moves(
        "unchecked_epoch",
        "a write is done whatever its epoch, also to a frozen or moved tenant",
        &["from placement"],
    ),
    bug("imagined_quorum", "a leader counts a follower that does not answer", &["leader", "cut"]),
    bug("unsynced_append", "entries are acknowledged before they are on disk", &["power"]),
    bug("unsynced_vote", "a vote is acknowledged before it is on disk", &["power"]),
    bug("torn_end", "a log that ends below its floor passes for one that was torn", &["flip bits of a log"]),
    bug("keys_not_in_snapshot", "a snapshot leaves the idempotency table out", &["wipe"]),
    bug("trusted_clock", "a leader follows its own clock, whatever its peers' show", &["jump"]),
    bug("forgotten_keys", "a repeated write is done again under its idempotency key", &[]),
    bug("unknown_as_refused", "a write of unknown outcome is said to have had no effect", &["leader", "kill"]),
    bug("blind_swap", "If-Match is not looked at when a write is applied", &[]),
    bug("lost_event", "each five hundredth revision is not told to watchers", &[]),
    bug(
        "skipped_history",
        "a resume from below what the gateway holds goes on from what it holds",
        &["a gateway", "slow readers"],
    ),
    bug("early_mark", "a progress mark is one revision ahead of its events", &["a gateway", "slow readers"]),
    bug("repeated_event", "a watch resumes one revision too early", &["a gateway", "slow readers"]),
    bug("torn_changeset", "watchers are told of the first change of a changeset only", &[]),
    bug("half_changeset", "the last change of a changeset is not made", &[]),
    bug("young_edge", "an answer of the edge says that it is of this moment", &["pause", "cut"]),
    bug("kept_set", "the edge goes on answering from what the feed said has changed", &[]),
    bug("broken_chain", "each hundredth audit record does not name the one before", &[]),
];

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    bug: Bug,
    found: bool,
    /// The seed of the last run with it.
    seed: u64,
    /// None: the run could not be done.
    verdict: Option<String>,
    /// The checkers with violations.
    by: Vec<Found>,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Table {
    seed: u64,
    seconds: u64,
    rows: Vec<Row>,
}

/// Runs once for each bug, prints the table and writes it.
///
/// # Errors
/// Where a run cannot be started, or no bug has the name that was asked for.
pub async fn gate(asked: &Planting) -> Result<u8> {
    ensure!(asked.jobs > 0 && asked.attempts > 0, "jobs and attempts begin at 1");
    let chosen = |bug: &&Bug| asked.only.is_empty() || asked.only.iter().any(|only| only == bug.name);
    let bugs: Vec<Bug> = BUGS.iter().filter(chosen).copied().collect();
    ensure!(!bugs.is_empty(), "no planted bug has such a name");
    let out = child::directory(&asked.load.out, &format!("gate-{}", asked.seed))?;
    println!("{HEAD}");
    let rows = stream::iter(bugs).map(|bug| one(asked, &out, bug)).buffer_unordered(asked.jobs);
    let mut rows: Vec<Row> = rows.inspect_ok(|row| println!("{}", line(row))).try_collect().await?;
    rows.sort_by_key(|row| BUGS.iter().position(|bug| bug.name == row.bug.name));
    let missed: Vec<&str> = rows.iter().filter(|row| !row.found).map(|row| row.bug.name).collect();
    println!("{} of {} planted bugs were found; not found: {missed:?}", rows.len() - missed.len(), rows.len());
    let code = u8::from(!missed.is_empty());
    write(&Table { seed: asked.seed, seconds: asked.seconds, rows }, &asked.load.out)?;
    Ok(code)
}

async fn one(asked: &Planting, out: &Path, bug: Bug) -> Result<Row> {
    let fault = bug.under.iter().map(|words| (*words).to_owned()).collect();
    let load = Load { fault, moves: bug.moves.or(asked.load.moves), ..asked.load.clone() };
    let out = out.join(bug.name);
    let mut seed = asked.seed;
    loop {
        let child = Child { seed, seconds: asked.seconds, load: &load, out: &out, bug: Some(bug.name) };
        let row = row(bug, seed, child.run().await?);
        seed += 1;
        if row.found || seed == asked.seed + asked.attempts {
            return Ok(row);
        }
    }
}

fn row(bug: Bug, seed: u64, run: Option<Summary>) -> Row {
    let verdict = run.as_ref().map(|run| run.verdict.clone());
    let by: Vec<Found> = run.into_iter().flat_map(|run| run.findings).filter(|f| f.violations > 0).collect();
    Row { bug, found: !by.is_empty(), seed, verdict, by }
}

/// As it stands in docs/chaos.md.
fn line(row: &Row) -> String {
    let at = |f: &Found| f.first_at.map(|at| format!(", {:.1} s", at as f64 / 1e6)).unwrap_or_default();
    let by: Vec<String> = row.by.iter().map(|f| format!("{} ({}{})", f.checker, f.violations, at(f))).collect();
    let by = match (row.found, &row.verdict) {
        (true, _) => by.join("; "),
        (false, Some(verdict)) => format!("**not found** ({verdict})"),
        (false, None) => "**not found**: the run could not be done".into(),
    };
    format!("| `{}` | {} | {by} | {} |", row.bug.name, row.bug.does, row.seed)
}

const HEAD: &str = "| bug | what it does | found by | seed |\n|---|---|---|---|";

/// `gate.json` and `gate.md`.
fn write(table: &Table, out: &Path) -> Result<()> {
    std::fs::write(out.join("gate.json"), serde_json::to_vec_pretty(table)?)?;
    let mut page = format!("From seed {} on, {} s of harm in each run.\n\n{HEAD}\n", table.seed, table.seconds);
    for row in &table.rows {
        page.push_str(&line(row));
        page.push('\n');
    }
    Ok(std::fs::write(out.join("gate.md"), page)?)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use super::*;

    /// A bug that is not found must not pass for found, also where the run failed for another reason.
    #[test]
    fn only_a_violation_counts() {
        let found =
            |violations| Found { checker: "audit chain".into(), violations, undecided: 1, first_at: Some(1_500_000) };
        let run = |violations| Summary { verdict: "v".into(), findings: vec![found(violations)], ..Summary::default() };
        assert!(line(&row(BUGS[0], 6, Some(run(2)))).ends_with("| audit chain (2, 1.5 s) | 6 |"));
        assert!(!row(BUGS[0], 6, Some(run(0))).found);
        assert!(!row(BUGS[0], 6, None).found);
    }

    fn sources(below: PathBuf, all: &mut String) {
        for entry in std::fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(path, all),
                false if path.extension().is_some_and(|kind| kind == "rs") => {
                    all.push_str(&std::fs::read_to_string(path).unwrap());
                }
                false => {}
            }
        }
    }

    /// The gate knows each bug that is planted anywhere, and plants none that is nowhere.
    #[test]
    fn every_planted_bug_is_asked_for() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut text = String::new();
        for part in ["raft", "placement", "shard", "gateway", "cli", "common"] {
            sources(root.join(part).join("src"), &mut text);
        }
        for bug in BUGS {
            assert!(text.contains(&format!("\"{}\"", bug.name)), "{} is planted nowhere", bug.name);
        }
        let known: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
        for planted in text.split("planted::has(\"").skip(1) {
            let name = planted.split('"').next().unwrap_or_default();
            assert!(known.contains(name), "{name} is not in the table");
        }
    }
}
