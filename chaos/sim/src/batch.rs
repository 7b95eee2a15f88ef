//! Many seeds, each in a process of its own: nothing of one can be in another.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use conflux_common::planted;
use serde_json::Value;
use tracing_subscriber::filter::Targets;

use crate::{run, world::WITNESSES};

/// `7` or `1..2000`, both included.
pub fn seeds(text: &str) -> Result<std::ops::RangeInclusive<u64>> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let number =
        |text: &str| text.trim_start_matches('=').parse::<u64>().with_context(|| format!("{text:?} is no seed"));
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        bail!("{from} is above {to}");
    }
    Ok(from..=to)
}

/// What came of one process.
struct Done {
    seed: u64,
    /// What it printed; an error: it broke down.
    said: Result<Value>,
}

/// Runs one seed in a process and a directory of its own.
fn child(seed: u64, trace: Option<&Path>, aloud: bool, log: Option<&Targets>, plant: Option<&str>) -> Result<Value> {
    let directory = run::directory()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["one", "--seed", &seed.to_string()]).current_dir(directory.path());
    command.env("CONFLUX_WITNESS", WITNESSES).env_remove(planted::VARIABLE);
    if let Some(bug) = plant {
        command.env(planted::VARIABLE, bug);
    }
    if let Some(trace) = trace {
        command.arg("--trace").arg(trace);
    }
    if let Some(log) = log {
        command.arg("--log").arg(log.to_string());
    }
    if aloud {
        command.arg("--aloud");
    }
    let ended = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&ended.stdout);
    let line =
        text.lines().last().ok_or_else(|| anyhow!("the process ended with {} and said nothing", ended.status))?;
    serde_json::from_str(line).with_context(|| format!("the process ended with {} and said {line:?}", ended.status))
}

fn violations(said: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = said["violations"].as_array().into_iter().flatten();
    all.map(|v| (v["invariant"].as_str().unwrap_or("?"), v["what"].as_str().unwrap_or("?")))
}

fn again(seed: u64, plant: Option<&str>) -> String {
    let plant = plant.map(|bug| format!(" --plant {bug}")).unwrap_or_default();
    format!("conflux-sim replay --seed {seed}{plant} --trace seed-{seed}.txt")
}

/// Runs seeds, so many at a time, and prints what was found and the sums. Whether all were clean.
pub fn run(seeds: std::ops::RangeInclusive<u64>, jobs: usize, keep_going: bool, plant: Option<&str>) -> Result<bool> {
    let started = Instant::now();
    let (next, stop) = (Arc::new(AtomicU64::new(*seeds.start())), Arc::new(AtomicBool::new(false)));
    let (sender, done) = mpsc::channel();
    let last = *seeds.end();
    let plant = plant.map(str::to_owned);
    for _ in 0..jobs.max(1) {
        let (next, stop, sender, plant) = (next.clone(), stop.clone(), sender.clone(), plant.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed > last
                    || sender.send(Done { seed, said: child(seed, None, false, None, plant.as_deref()) }).is_err()
                {
                    return;
                }
            }
        });
    }
    drop(sender);
    let (mut count, mut bad, mut sums) = (0u64, 0u64, BTreeMap::<String, u64>::new());
    for Done { seed, said } in done {
        let said = said.with_context(|| format!("seed {seed} ({})", again(seed, plant.as_deref())))?;
        count += 1;
        for (name, number) in said["totals"].as_object().into_iter().flatten() {
            *sums.entry(name.clone()).or_default() += number.as_u64().unwrap_or(0);
        }
        let mut broken = false;
        for (invariant, what) in violations(&said) {
            broken = true;
            println!("seed {seed}: VIOLATED {invariant}: {what}");
        }
        if broken {
            bad += 1;
            println!("  again: {}", again(seed, plant.as_deref()));
            stop.store(!keep_going, Ordering::Relaxed);
        }
        if count.is_multiple_of(100) {
            eprintln!("{count} seeds, {bad} violated, {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
    println!(
        "{count} seeds, {bad} violated: {} calls ({} writes done, {} refused, {} unknown; {} reads), {} told to watchers, \
         {} faults, {} writes lost with the power, {} moves, {:.0} simulated s in {:.1} s",
        sum("calls"),
        sum("writes"),
        sum("refused"),
        sum("unknown"),
        sum("reads"),
        sum("watched"),
        sum("faults"),
        sum("lost_writes"),
        sum("moves"),
        sum("simulated_ms") as f64 / 1000.0,
        started.elapsed().as_secs_f64(),
    );
    Ok(bad == 0)
}

/// Runs one seed and prints what came of it.
pub fn replay(seed: u64, trace: Option<PathBuf>, aloud: bool, log: &Targets, plant: Option<&str>) -> Result<bool> {
    let trace = trace.map(std::path::absolute).transpose()?;
    let said = child(seed, trace.as_deref(), aloud, Some(log), plant)?;
    let mut clean = true;
    for (invariant, what) in violations(&said) {
        clean = false;
        println!("VIOLATED {invariant}: {what}");
    }
    println!("seed {seed}: {}", if clean { "clean" } else { "violated" });
    println!("totals: {}", said["totals"]);
    println!(
        "trace: sha256 {}{}",
        said["trace_sha256"].as_str().unwrap_or("?"),
        match &trace {
            Some(file) => format!(", {}", file.display()),
            None => String::new(),
        }
    );
    Ok(clean)
}
