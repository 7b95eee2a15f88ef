//! One run, from the seed to the report.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use conflux_tests::Federation;

use crate::{
    Load, Options,
    checks::{self, Finding},
    child,
    disks::Disks,
    ground::{Ground, Own, describe, start_federation, suitable},
    history::{Call, Clock, Micros, Told},
    inquest,
    leaders::{Leaders, Led},
    nemesis::{Done, Moved, Nemesis, Tools},
    plan::{self, Grounds, Means},
    quotas,
    report::{Report, by_second, outcomes},
    workload::Workload,
};

/// How long open writes are asked again.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

/// The planted bug of the processes, which inherit this program's environment.
fn planted() -> Option<String> {
    std::env::var(conflux_common::planted::VARIABLE).ok()
}

fn seed_of(options: &Options) -> u64 {
    options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()))
}

/// Prints what the seed would do to a federation as `run` starts it.
pub fn show_plan(options: &Options) -> Result<u8> {
    let means = Means { processes: true, links: true, disks: true, clocks: true };
    let grounds = Grounds { groups: 3, gateways: 2, tenants: options.load.tenants, moves: true, means };
    let seed = seed_of(options);
    println!("seed {seed}; groups 0 and 1 hold tenants, 2 is placement");
    for planned in plan::schedule(seed, options.seconds, grounds, &options.load.fault, options.load.moves) {
        println!("{:>8} ms  {:<26} {}", planned.at_ms, planned.fault.kind(), serde_json::to_string(&planned.fault)?);
    }
    Ok(0)
}

/// What was gathered while harm was done.
struct Gathered {
    calls: Vec<Call>,
    open: usize,
    unsettled: usize,
    watch_events: usize,
    healed_at: Micros,
    leaders: Vec<Led>,
    findings: Vec<Finding>,
}

/// Runs, reports, and says how it went by the exit status.
pub async fn run(options: Options, disks: Result<(), String>) -> Result<u8> {
    let Load { tenants, clients, rate, .. } = options.load;
    ensure!(tenants > 0 && clients > 0 && rate > 0, "tenants, clients and rate begin at 1");
    let seed = seed_of(&options);
    let command = command_of(&options, seed);
    println!("seed {seed}; again: {command}");
    let out = child::directory(&options.load.out, &format!("seed-{seed}"))?;
    let (federation, tools, left_out, description) = match &options.federation {
        Some(file) => {
            (None, Tools::none(), vec!["all but transfers of leaders, moves and slow readers".into()], describe(file)?)
        }
        None => {
            let Own { federation, tools, left_out } = start_federation(&out, disks).await?;
            let description = federation.description.clone();
            (Some(federation), tools, left_out, description)
        }
    };
    left_out.iter().for_each(|what| println!("left out: {what}"));
    suitable(&description)?;
    let ground = Ground::prepare(description, seed, tenants).await.context("making the tenants")?;
    let clock = Clock::start();
    let mut nemesis = Nemesis::new(&ground, federation, tools, clock);
    let gathered = gather(&options, seed, &ground, &mut nemesis, clock).await?;
    let report = judge(&options, (seed, command, left_out), gathered, &nemesis);
    report.write(&out)?;
    tell(&report, &out);
    clean_up(ground, nemesis.into_parts(), report.verdict == "clean").await;
    Ok(match report.verdict.as_str() {
        "clean" => 0,
        "does not count" => 2,
        _ => 1,
    })
}

async fn gather(
    options: &Options,
    seed: u64,
    ground: &Ground,
    nemesis: &mut Nemesis,
    clock: Clock,
) -> Result<Gathered> {
    let began_ms = unix_ms().saturating_sub(clock.now() / 1000);
    let mut load = Workload::start(&ground.tenants, clock, seed, options.load.clients, options.load.rate);
    let schedule =
        plan::schedule(seed, options.seconds, ground.grounds(nemesis.means()), &options.load.fault, options.load.moves);
    let leaders = Leaders::watch(ground, clock);
    println!("{} faults are planned over {} s", schedule.len(), options.seconds);
    nemesis.run(&schedule, options.seconds * 1000).await;
    nemesis.heal();
    let healed_at = clock.now();
    load.stop().await;
    let led = leaders.led();
    drop(leaders);
    let moves_left = nemesis.moves_end(inquest::HEALS_WITHIN).await;
    let (live, last) = inquest::liveness(ground, moves_left, nemesis).await;
    // What is not served again is not waited for: the run has its verdict.
    let (settles, within) = match live.passed() {
        true => (SETTLES_WITHIN, inquest::HEALS_WITHIN),
        false => (SETTLES_WITHIN / 8, inquest::HEALS_WITHIN / 8),
    };
    let (open, unsettled) = load.settle(settles).await;
    // Settling may have written: what the watchers owe ends with a write after it.
    let end = inquest::last_writes(ground, within).await;
    let last: Vec<u64> = last.iter().zip(&end).map(|(a, b)| *a.max(b)).collect();
    let calls = load.shared.calls.lock().clone();
    let mut sets = Finding::new("changesets are whole");
    let (sequence, watch_events) = inquest::watchers(ground, &last, &calls, within, &mut sets).await;
    let mut findings = vec![checks::linearizability(&calls), checks::freshness(&calls, ground.tenants.len())];
    match inquest::stored(ground, &load.shared).await {
        Ok(stored) => {
            findings.push(checks::versions(&calls, &stored));
            findings.push(checks::group_time(&calls, &stored, began_ms));
            checks::sets_agree(&stored, &mut sets);
        }
        Err(why) => {
            let mut finding = Finding::new("acknowledged writes and version histories");
            finding.wrong(|| format!("they cannot be read: {why:#}"));
            findings.push(finding);
        }
    }
    let count: usize = (0..ground.tenants.len()).map(|n| checks::sets_at(&calls, n).len()).sum();
    sets.looked_at = format!("{count} changesets, by watchers and in version histories");
    findings.extend([sequence, sets, inquest::audit(ground, within).await]);
    findings.push(quotas::recount(ground, within).await);
    if let Some(federation) = nemesis.federation() {
        findings.push(inquest::convergence(ground, federation, &calls).await);
        findings.push(inquest::promises(nemesis.witness()));
    }
    findings.extend([live, inquest::odd_answers(&load.shared)]);
    Ok(Gathered { calls, open, unsettled, watch_events, healed_at, leaders: led, findings })
}

fn judge(
    options: &Options,
    (seed, command, left_out): (u64, String, Vec<String>),
    gathered: Gathered,
    nemesis: &Nemesis,
) -> Report {
    let Gathered { calls, open, unsettled, watch_events, healed_at, leaders, findings } = gathered;
    let faults = nemesis.done.lock().clone();
    let moves = nemesis.moves();
    let mut faults_by_kind = BTreeMap::new();
    for fault in faults.iter().filter(|f| f.landed) {
        *faults_by_kind.entry(fault.kind).or_default() += 1;
    }
    let checked = checks::looked_at(&calls);
    // What was surely not done is no load.
    let loaded = calls.iter().filter(|c| c.part == 0 && !matches!(c.told, Told::NotApplied | Told::Open)).count();
    let calls_per_second = loaded as f64 / (healed_at as f64 / 1e6);
    let verdict = if findings.iter().any(|f| f.violations > 0) {
        "VIOLATED"
    } else if unsettled > 0 || findings.iter().any(|f| f.undecided > 0) {
        "undecided"
    } else if calls_per_second < options.load.least_rate as f64 || (faults_by_kind.is_empty() && moves.is_empty()) {
        "does not count"
    } else {
        "clean"
    };
    Report {
        seed,
        seconds: options.seconds,
        command,
        planted: planted(),
        left_out,
        verdict: verdict.into(),
        calls: loaded,
        calls_per_second,
        outcomes: outcomes(&calls),
        watch_events,
        open,
        unsettled,
        faults_by_kind,
        checked,
        moves_done: moves.iter().filter(|m| m.state == "done").count(),
        moves_under_fault: under_fault(&moves, &faults),
        moves_given_up: moves.iter().filter(|m| m.state == "given_up").count(),
        findings,
        faults,
        moves,
        leaders,
        healed_at,
        seconds_line: by_second(&calls, healed_at / 1_000_000),
    }
}

/// Moves that were done, and during which a fault went on.
fn under_fault(moves: &[Moved], faults: &[Done]) -> usize {
    let met = |m: &Moved, until: Micros| faults.iter().any(|f| f.landed && f.began < until && m.began < f.ended);
    moves.iter().filter(|m| m.state == "done" && m.ended.is_some_and(|until| met(m, until))).count()
}

/// The command that does the same again.
fn command_of(options: &Options, seed: u64) -> String {
    let planted = planted().map(|bug| format!("{}={bug} ", conflux_common::planted::VARIABLE)).unwrap_or_default();
    let federation = options.federation.as_ref().map(|f| format!(" --federation {}", f.display())).unwrap_or_default();
    let (seconds, load) = (options.seconds, options.load.in_words());
    format!("{planted}conflux-chaos run --seed {seed} --seconds {seconds} {load}{federation}")
}

fn tell(report: &Report, out: &Path) {
    println!(
        "{} calls ({:.0}/s), {} watch events, moves: {} done, {} given up; open writes: {}, settled but {}",
        report.calls,
        report.calls_per_second,
        report.watch_events,
        report.moves_done,
        report.moves_given_up,
        report.open,
        report.unsettled
    );
    println!("faults: {:?}", report.faults_by_kind);
    for finding in &report.findings {
        let word = if finding.passed() { "ok" } else { "VIOLATED" };
        println!("{word:>9}  {}: {}, {} violations", finding.checker, finding.looked_at, finding.violations);
        for words in finding.words.iter().take(3) {
            println!("           {words}");
        }
    }
    println!("verdict: {}; report: {}", report.verdict, out.join("report.html").display());
}

/// Somebody else's federation is left as it was found; of our own the logs stay, and after a violation the data too.
async fn clean_up(ground: Ground, (federation, disks): (Option<Federation>, Option<Disks>), clean: bool) {
    let Some(federation) = federation else {
        for tenant in &ground.tenants {
            if let Err(why) = ground.operators[0].delete(&format!("/api/v1/admin/tenants/{}", tenant.name)).await {
                eprintln!("the tenant {} stays: {why:#}", tenant.name);
            }
        }
        return;
    };
    let mut directories: Vec<PathBuf> = federation.description.members.iter().map(|m| m.data_dir.clone()).collect();
    directories.push(federation.directory().join("disks"));
    let stopped = tokio::task::spawn_blocking(move || drop(federation)).await;
    drop(disks);
    if clean && stopped.is_ok() {
        for directory in directories {
            let _ = std::fs::remove_dir_all(directory); // what is left takes room and does no harm
        }
    }
}

/// By the clock of this machine, which nobody bends.
fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
