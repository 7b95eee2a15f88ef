//! More and more configs of 256 B, put through the public API: what fetches, changes, memory, disk, a restart and a whole copy cost
//! then. Edge reads are off. They are spread evenly over tenants; keys are uniform over all of them. etcd beside it holds as
//! many keys of the same size.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::Method;

use super::{Bench, CONFLUX, ETCD, pair::Pair};
use crate::{
    compare::{Driven, Side},
    conflux::Space,
    connection::{Endpoint, Protocol},
    load::{self, Shape},
    process::{self, Groups},
    results::{Grown, Results, Window},
};

/// Bytes of each value.
const SIZE: usize = 256;

/// Puts of a changeset: as many as the API takes.
const EACH: u64 = 100;

/// Changesets and puts in flight while the data is put.
const LOADERS: usize = 16;
const PUTTERS: usize = 256;

/// The only shard group.
const GROUP: &str = "shard-a";

/// After a load, until what it left to do is done: less than this share of a processor, or so long. A third is what both
/// sides together need when nobody asks anything.
const QUIET: f64 = 0.5;
const PATIENCE: Duration = Duration::from_secs(120);

/// Step by step, both sides.
pub async fn measure(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let mut pair = Pair::start(bench).await?;
    pair.start_proxying().await?;
    let most = bench.plan.growth.iter().copied().max().unwrap_or(0);
    let tenants = pair.conflux.tenants("grown-", most.div_ceil(bench.plan.per_tenant).max(1) as usize, GROUP).await?;
    // A changeset is full, and each tenant has as many of them.
    let unit = EACH * tenants.len() as u64;
    let (mut before, versions) = (0, bench.plan.versions);
    results.growth.clear();
    for step in bench.plan.growth.clone() {
        let entries = (step / unit).max(1) * unit;
        let space = Space::new(tenants.clone(), "g", SIZE, entries);
        let mut all = [CONFLUX, ETCD].map(|side| Grown {
            side: side.into(),
            entries,
            versions,
            tenants: tenants.len(),
            value_bytes: SIZE,
            ..Grown::default()
        });
        for grown in &mut all {
            grown.loaded = (entries - before) * versions;
            let (own, start) = (grown.side == CONFLUX, Instant::now());
            let by = pair.proxying(&space.changesets(EACH, 0), Protocol::Http2)?;
            let processes = if own { by.processes } else { pair.etcd.processes() };
            let used = process::look(&processes);
            match own {
                true => {
                    load_conflux(&by.endpoints, &space, before, versions).await.context("loading the federation")?
                }
                false => load_etcd(&pair, before..entries, versions).await.context("loading etcd")?,
            }
            grown.loading_s = start.elapsed().as_secs_f64();
            let used = process::between(&used, &process::look(&processes));
            grown.loading_cpu_s = used.iter().filter(|(name, _)| *name != "driver").map(|(_, u)| u.cpu_s).sum();
            eprintln!(
                "{}: {} values put in {:.1} s, {:.1} s of processor time",
                grown.side, grown.loaded, grown.loading_s, grown.loading_cpu_s
            );
        }
        quiet(&pair).await;
        in_memory(&pair).context("reading the data once")?;
        windows(&pair, &space, &mut all).await?;
        of_conflux(&mut pair, &mut all[0]).await.context("the federation")?;
        of_etcd(&mut pair, &mut all[1]).await.context("etcd")?;
        all.iter().for_each(told);
        results.growth.extend(all);
        results.write(&bench.run.results)?;
        before = entries;
    }
    Ok(())
}

async fn load_conflux(endpoints: &[Endpoint], space: &Space, before: u64, versions: u64) -> Result<()> {
    for version in 0..versions {
        let changesets = space.changesets(EACH, version);
        load::fill(endpoints, &changesets, before / EACH..space.configs / EACH, LOADERS).await?;
    }
    Ok(())
}

async fn load_etcd(pair: &Pair, entries: std::ops::Range<u64>, versions: u64) -> Result<()> {
    for version in 0..versions {
        // The same keys again, with other values.
        let numbers = version * entries.end + entries.start..(version + 1) * entries.end;
        let puts = pair.etcd.first_puts(SIZE, entries.end);
        load::fill(&pair.etcd.endpoints()?, &puts, numbers, PUTTERS).await?;
    }
    Ok(())
}

/// Waits until what a load left to do is done.
async fn quiet(pair: &Pair) {
    let groups: Groups = pair.conflux.processes().into_iter().chain(pair.etcd.processes()).collect();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let before = process::look(&groups);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = process::between(&before, &process::look(&groups));
        if used.iter().filter(|(name, _)| *name != "driver").map(|(_, u)| u.cpu_s).sum::<f64>() < QUIET {
            return;
        }
    }
    eprintln!("not quiet {PATIENCE:?} after the load: measured all the same");
}

/// While one side was loaded, the kernel may have let go of the other's files. A disk's speed is not what is compared.
fn in_memory(pair: &Pair) -> Result<()> {
    for member in pair.conflux.members(GROUP) {
        process::read_below(&pair.conflux.data_dir(&member)?)?;
    }
    for name in pair.etcd.names() {
        process::read_below(&pair.etcd.data_dir(&name)?)?;
    }
    Ok(())
}

async fn windows(pair: &Pair, space: &Space, all: &mut [Grown; 2]) -> Result<()> {
    let entries = space.configs;
    let fetches = |side: Side, requests| Side { requests, ..side };
    let conflux = pair.proxying(&space.fetches("stale"), Protocol::Http2)?;
    let etcd = pair.etcd(pair.etcd.ranges(SIZE, entries, true, false))?;
    let writing = [fetches(conflux.clone(), space.puts()), fetches(etcd.clone(), pair.etcd.puts(SIZE, entries))];
    for (at, concurrency) in [(0, 1), (1, 64), (2, 64)] {
        let shape = Shape { concurrency, window: pair.plan.window, offered: None };
        let sides = if at == 2 { &writing } else { &[conflux.clone(), etcd.clone()] };
        let driven = [Driven::warm(&sides[0], shape).await?, Driven::warm(&sides[1], shape).await?];
        for _ in 0..pair.plan.rounds {
            for (driven, grown) in driven.iter().zip(all.iter_mut()) {
                // With that many keys, what one side leaves to do after its window (Go collects garbage) was half of the other's.
                quiet(pair).await;
                let window = driven.window(shape).await?;
                [&mut grown.fetch_one, &mut grown.fetch, &mut grown.write][at].push(window);
            }
        }
    }
    Ok(())
}

async fn of_conflux(pair: &mut Pair, grown: &mut Grown) -> Result<()> {
    let leader = pair.conflux.leader(GROUP).await?;
    for member in pair.conflux.members(GROUP) {
        grown.resident = grown.resident.max(process::resident(pair.conflux.pid(&member)?));
        grown.disk = grown.disk.max(process::bytes_below(&pair.conflux.data_dir(&member)?));
        grown.log_bytes = grown.log_bytes.max(pair.conflux.metric(&member, "conflux_raft_log_bytes").await?);
        grown.state_bytes = grown.state_bytes.max(pair.conflux.metric(&member, "conflux_raft_state_bytes").await?);
    }
    let start = Instant::now();
    let path = format!("/_cluster/{GROUP}/backup?follower=true");
    grown.snapshot_bytes = pair.conflux.read_through(Method::GET, &path).await.context("a copy of the state")?;
    grown.snapshot_s = start.elapsed().as_secs_f64();
    let follower = pair.conflux.members(GROUP).into_iter().find(|m| *m != leader).context("a follower")?;
    pair.conflux.stop(&follower).await?;
    grown.restart_s = pair.conflux.start_again(&follower).await?.as_secs_f64();
    grown.resident_restarted = process::resident(pair.conflux.pid(&follower)?);
    Ok(())
}

async fn of_etcd(pair: &mut Pair, grown: &mut Grown) -> Result<()> {
    let leader = pair.etcd.leader().await?;
    for name in pair.etcd.names() {
        grown.resident = grown.resident.max(process::resident(pair.etcd.pid(&name)?));
        grown.disk = grown.disk.max(process::bytes_below(&pair.etcd.data_dir(&name)?));
    }
    let start = Instant::now();
    grown.snapshot_bytes = pair.etcd.snapshot().await.context("a copy of the state")?;
    grown.snapshot_s = start.elapsed().as_secs_f64();
    let follower = pair.etcd.names().into_iter().find(|n| *n != leader).context("a follower")?;
    pair.etcd.stop(&follower).await?;
    grown.restart_s = pair.etcd.restart(&follower).await?.as_secs_f64();
    grown.resident_restarted = process::resident(pair.etcd.pid(&follower)?);
    Ok(())
}

fn told(g: &Grown) {
    let median = |windows: &[Window], of: fn(&Window) -> u64| {
        crate::statistics::spread(windows.iter().map(|w| of(w) as f64 / 1e3)).unwrap_or_default().median
    };
    eprintln!(
        "{} with {} entries: fetch p50 {:.2} ms alone, {:.2} ms of 64; write p50 {:.2} ms, p99 {:.2} ms; {} MiB resident, {} MiB on disk; restart {:.1} s; copy of {} MiB in {:.1} s",
        g.side,
        g.entries,
        median(&g.fetch_one, |w| w.p50_us),
        median(&g.fetch, |w| w.p50_us),
        median(&g.write, |w| w.p50_us),
        median(&g.write, |w| w.p99_us),
        g.resident >> 20,
        g.disk >> 20,
        g.restart_s,
        g.snapshot_bytes >> 20,
        g.snapshot_s
    );
}
