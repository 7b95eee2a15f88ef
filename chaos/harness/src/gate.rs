//! Proves the harness: with each planted bug a run must end in a violation.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use conflux_common::planted;

use crate::Planting;

/// The bugs that `conflux_common::planted` knows, and what each does.
const BUGS: [(&str, &str); 8] = [
    ("unconfirmed_read", "a linearizable read is answered by any replica, without a read barrier"),
    ("untold_age", "a stale read says that it is of this moment"),
    ("forgotten_keys", "a repeated write is done again under its idempotency key"),
    ("blind_swap", "If-Match is not looked at when a write is applied"),
    ("unchecked_epoch", "a write is applied whatever its epoch, also to a frozen or moved tenant"),
    ("lost_event", "each five hundredth revision is not told to watchers"),
    ("repeated_event", "a watch resumes one revision too early"),
    ("broken_chain", "each hundredth audit record does not name the one before"),
];

/// Runs once for each bug, and prints the table.
pub async fn gate(options: &Planting) -> Result<u8> {
    let run = &options.run;
    let program = std::env::current_exe().context("the path of this program")?;
    let (mut rows, mut missed) = (Vec::new(), 0);
    for (bug, what) in BUGS.iter().filter(|(bug, _)| options.only.is_empty() || options.only.iter().any(|o| o == bug)) {
        let out = run.out.join(bug);
        std::fs::create_dir_all(&out)?;
        let seed = run.seed.unwrap_or(1);
        let status = Command::new(&program)
            .args(["run", "--seed", &seed.to_string(), "--seconds", &run.seconds.to_string()])
            .args(["--rate", &run.rate.to_string(), "--out"])
            .arg(&out)
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
    println!("| bug | what it does | found by (seed {}, {} s) |\n|---|---|---|", run.seed.unwrap_or(1), run.seconds);
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

/// Each checker with a violation, and how many.
fn caught_by(report: &Value) -> Result<String> {
    let findings = report["findings"].as_array().context("findings")?;
    let words = findings.iter().filter(|f| f["violations"].as_u64().unwrap_or(0) > 0);
    let words: Vec<String> =
        words.map(|f| format!("{} ({})", f["checker"].as_str().unwrap_or_default(), f["violations"])).collect();
    Ok(words.join(", "))
}
