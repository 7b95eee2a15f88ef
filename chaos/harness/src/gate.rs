//! Proves the harness: with each planted bug a run must end in a violation.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use conflux_common::planted;

use crate::Planting;

/// A bug that `conflux_common::planted` knows.
struct Bug {
    name: &'static str,
    does: &'static str,
    /// The faults under which it shows: those whose kind has one of these words in it; none: all.
    under: &'static [&'static str],
}

const fn bug(name: &'static str, does: &'static str, under: &'static [&'static str]) -> Bug {
    Bug { name, does, under }
}

const BUGS: [Bug; 20] = [
    bug("unconfirmed_read", "a linearizable read is answered by any replica, without a read barrier", &[]),
    bug("untold_age", "a stale read says that it is of this moment", &[]),
    bug("unconfirmed_age", "a replica that no quorum answers calls its state fresh", &["leader", "cut"]),
    bug("unwaited_revision", "a stale read does not wait for its min_revision", &["cut", "slow links", "pause"]),
    bug("unchecked_read", "a source goes on answering reads of a tenant that has moved", &["from placement"]),
    bug("unchecked_epoch", "a write is done whatever its epoch, also to a frozen or moved tenant", &["from placement"]),
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
    bug("broken_chain", "each hundredth audit record does not name the one before", &[]),
];

/// Runs once for each bug, and prints the table.
pub async fn gate(options: &Planting) -> Result<u8> {
    let run = &options.run;
    let program = std::env::current_exe().context("the path of this program")?;
    let (mut rows, mut missed) = (Vec::new(), 0);
    let chosen = |bug: &&Bug| options.only.is_empty() || options.only.iter().any(|only| only == bug.name);
    for Bug { name: bug, does: what, under } in BUGS.iter().filter(chosen) {
        let out = run.out.join(bug);
        std::fs::create_dir_all(&out)?;
        let seed = run.seed.unwrap_or(1);
        let status = Command::new(&program)
            .args(["run", "--seed", &seed.to_string(), "--seconds", &run.seconds.to_string()])
            .args(["--rate", &run.rate.to_string(), "--out"])
            .arg(&out)
            .args(under.iter().flat_map(|words| ["--fault", words]))
            .env(planted::VARIABLE, bug)
            .stdin(Stdio::null())
            .status()
            .await?;
        let found = match status.code() {
            Some(1) => caught_by(&newest(&out)?)?,
            _ => String::new(),
        };
        missed += usize::from(found.is_empty());
        let found = if found.is_empty() { format!("NOT FOUND ({status})") } else { found };
        rows.push(format!("| `{bug}` | {what} | {found} |"));
    }
    ensure!(!rows.is_empty(), "no planted bug has such a name");
    let (seed, seconds) = (run.seed.unwrap_or(1), run.seconds);
    println!("| bug | what it does | found by (seed {seed}, {seconds} s), and when |\n|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(u8::from(missed > 0))
}

/// The report of the last run below this directory.
fn newest(out: &std::path::Path) -> Result<Value> {
    let reports =
        std::fs::read_dir(out)?.filter_map(|e| Some(e.ok()?.path().join("report.json"))).filter(|p| p.exists());
    let newest = reports.max_by_key(|p| p.metadata().and_then(|m| m.modified()).ok()).context("a report")?;
    Ok(serde_json::from_slice(&std::fs::read(newest)?)?)
}

/// Each checker with a violation, how many, and after how many seconds the first came about.
fn caught_by(report: &Value) -> Result<String> {
    let findings = report["findings"].as_array().context("findings")?;
    let words = findings.iter().filter(|f| f["violations"].as_u64().unwrap_or(0) > 0);
    let words: Vec<String> = words
        .map(|f| {
            let at = f["first_at"].as_u64().map_or("at the end".into(), |at| format!("{:.1} s", at as f64 / 1e6));
            format!("{} ({}, {at})", f["checker"].as_str().unwrap_or_default(), f["violations"])
        })
        .collect();
    Ok(words.join("; "))
}
