//! Watchers while one writer makes some changes a second. What counts is the last watcher: from the answer to the writer until
//! everyone has been told. Each measurement has a gateway, or etcd's members, that were started for it: what was used before would
//! be used again, and the memory of a watcher would seem to be less than it is.

mod deliveries;
mod transport;
mod watcher;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};

use self::{deliveries::Deliveries, transport::Transport, watcher::Watchers};
use super::{CONFLUX, ETCD, pair::Pair};
use crate::{
    conflux::{watch_grpc, watch_sse, watch_websocket},
    connection::{Endpoint, Protocol},
    load::Requests,
    process::{self, Groups, Usage},
    results::{Results, Watches},
    statistics::{quantile, sorted},
};

/// With more watchers than this there is one change a second: five would be more than two processors can hand over.
const MANY: usize = 5000;

/// After the last change, for who is late.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before memory is looked at: what opening needed is given back.
const SETTLING: Duration = Duration::from_secs(3);

/// Connections that are opened at a time: a watch from now begins at the gateway with the next word of a quorum, which is half a second.
const OPENING: usize = 200;

/// Watchers that share an h2 connection, to tell what a connection of one's own costs.
const SHARING: usize = 100;

/// Files that a process needs beside its watchers' connections.
const OTHER_FILES: u64 = 500;

/// A setting that is as it was: the second gateway is only wanted because it is new.
const AS_IT_IS: &str = "watch.max_watchers_per_principal=50000";

/// Every transport at each number of watchers.
pub async fn measure(pair: &mut Pair, results: &mut Results) -> Result<()> {
    pair.fill(1024).await?;
    let mut all = Vec::new();
    for count in pair.plan.watchers.clone() {
        all.extend([(Transport::Sse, count, 1), (Transport::Etcd, count, 1)]);
    }
    for count in pair.plan.others_watch.clone() {
        all.extend([(Transport::WebSocket, count, 1), (Transport::Grpc, count, 1), (Transport::Sse, count, SHARING)]);
    }
    results.watches.clear();
    for (transport, count, sharing) in all {
        let watches = match watched(pair, transport, count, sharing).await {
            Ok(watches) => watches,
            Err(error) => Watches { error: Some(format!("{error:#}")), ..begun(transport, count, sharing) },
        };
        told(&watches);
        results.watches.push(watches);
    }
    Ok(())
}

fn begun(transport: Transport, watchers: usize, per_connection: usize) -> Watches {
    let (side, transport) = (transport.side().into(), transport.name().into());
    let changes_per_s = if watchers > MANY { 1.0 } else { 5.0 };
    Watches { side, transport, watchers, per_connection, changes_per_s, ..Watches::default() }
}

/// As many on a connection as there must be for the number of files that a process may open.
fn sharing(transport: Transport, count: usize, wanted: usize) -> Result<usize> {
    let most = process::raise_open_files().saturating_sub(OTHER_FILES).max(1) as usize;
    let needed = count.div_ceil(most).max(wanted);
    if transport == Transport::WebSocket && needed > 1 {
        bail!("each has a connection of its own, and no more than {most} files may be open: ulimit -n");
    }
    Ok(needed)
}

async fn watched(pair: &mut Pair, transport: Transport, count: usize, wanted: usize) -> Result<Watches> {
    let sharing = sharing(transport, count, wanted)?;
    if transport == Transport::Etcd {
        for name in pair.etcd.names() {
            pair.etcd.stop(&name).await?;
            pair.etcd.restart(&name).await?;
        }
        let side = Watched {
            transport,
            endpoints: pair.etcd.endpoints()?,
            writes: pair.etcd.puts(1024, pair.plan.keys(1024)),
            processes: pair.etcd.processes(),
            pair,
        };
        return side.told(count, sharing).await;
    }
    pair.conflux.start_second_gateway(AS_IT_IS).await?;
    let protocol = if transport == Transport::WebSocket { Protocol::Http1 } else { Protocol::Http2 };
    let (endpoint, processes) = pair.conflux.second_gateway(protocol)?;
    let writes = pair.space(1024).puts();
    let side = Watched { transport, endpoints: vec![endpoint], writes, processes, pair };
    let watches = side.told(count, sharing).await;
    pair.conflux.stop_second_gateway().await?;
    watches
}

struct Watched<'a> {
    transport: Transport,
    endpoints: Vec<Endpoint>,
    writes: Requests,
    processes: Groups,
    pair: &'a Pair,
}

impl Watched<'_> {
    async fn told(&self, count: usize, sharing: usize) -> Result<Watches> {
        let mut watches = begun(self.transport, count, sharing);
        // The writer's connection and all that a first write needs are there before the watchers come.
        let writer = self.writer().await?;
        let empty = process::look(&self.processes);
        let deliveries = Arc::new(Deliveries::default());
        let opening = Instant::now();
        let opened = (0..count.div_ceil(sharing)).map(|n| {
            let endpoint = &self.endpoints[n % self.endpoints.len()];
            self.open(endpoint, sharing.min(count - n * sharing), &deliveries)
        });
        let watchers: Vec<_> = futures::stream::iter(opened).buffer_unordered(OPENING).try_collect().await?;
        // Dropping them ends them.
        let _watchers = Watchers(watchers.into_iter().flatten().collect());
        watches.opening_s = opening.elapsed().as_secs_f64();
        tokio::time::sleep(SETTLING).await;
        let before = process::look(&self.processes);
        watches.idle_bytes_per_watcher = added(&empty, &before, count);
        let start = Instant::now();
        let acknowledged = self.write(&writer, watches.changes_per_s).await?;
        let patient = Instant::now();
        let waits = |deliveries: &Deliveries| acknowledged.iter().any(|(r, _)| deliveries.of(*r).0 < count);
        while waits(&deliveries) && patient.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let after = process::look(&self.processes);
        watches.seconds = start.elapsed().as_secs_f64();
        watches.bytes_per_watcher = added(&empty, &after, count);
        watches.used = process::between(&before, &after);
        watches.changes = acknowledged.len();
        watches.missing = acknowledged.iter().map(|(r, _)| count.saturating_sub(deliveries.of(*r).0) as u64).sum();
        watches.ended = deliveries.ended.load(Ordering::Relaxed);
        let last = acknowledged.iter().filter_map(|(revision, at)| Some((deliveries.of(*revision).1?, at)));
        let last = sorted(last.map(|(last, at)| last.saturating_duration_since(*at).as_secs_f64() * 1e3).collect());
        watches.last_p50_ms = quantile(&last, 0.5);
        watches.last_p99_ms = quantile(&last, 0.99);
        watches.last_max_ms = quantile(&last, 1.0);
        Ok(watches)
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        count: usize,
        deliveries: &Arc<Deliveries>,
    ) -> Result<Vec<tokio::task::JoinHandle<()>>> {
        let demo = &self.pair.demo;
        match self.transport {
            Transport::WebSocket => {
                let request = watch_websocket(demo, &format!("localhost:{}", endpoint.address.port()))?;
                Ok(vec![watcher::open_websocket(endpoint, request, deliveries).await?])
            }
            Transport::Sse => watcher::open(self.transport, endpoint, &|| watch_sse(demo), count, deliveries).await,
            Transport::Grpc => watcher::open(self.transport, endpoint, &|| watch_grpc(demo), count, deliveries).await,
            Transport::Etcd => {
                watcher::open(self.transport, endpoint, &|| self.pair.etcd.watch(), count, deliveries).await
            }
        }
    }

    async fn writer(&self) -> Result<crate::connection::Connection> {
        let writer = match self.transport {
            Transport::Etcd => self.endpoints[0].connect().await?,
            // By the gateway of the watchers, over h2 whatever they speak.
            _ => self.pair.conflux.second_gateway(Protocol::Http2)?.0.connect().await?,
        };
        writer.call(self.writes.of(number())).await.context("a first write")?;
        Ok(writer)
    }

    /// Some changes a second; the revisions and when they were acknowledged.
    async fn write(&self, writer: &crate::connection::Connection, per_s: f64) -> Result<Vec<(u64, Instant)>> {
        let mut acknowledged = Vec::new();
        let start = tokio::time::Instant::now();
        for n in 0..(self.pair.plan.watch.as_secs_f64() * per_s) as u32 {
            tokio::time::sleep_until(start + Duration::from_secs_f64(f64::from(n) / per_s)).await;
            let answer = writer.call(self.writes.of(number())).await?;
            let at = Instant::now();
            acknowledged.push((self.transport.of_answer(answer)?, at));
        }
        Ok(acknowledged)
    }
}

/// Numbers that nothing else uses, so that no put is of what is there already.
fn number() -> u64 {
    static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1 << 37);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// Resident bytes for each watcher. The load's own and placement's, which has no part in a watch, are left out.
fn added(empty: &BTreeMap<String, Usage>, now: &BTreeMap<String, Usage>, watchers: usize) -> BTreeMap<String, f64> {
    let servers = now.iter().filter(|(name, _)| !matches!(name.as_str(), "driver" | "placement"));
    let of = |(name, usage): (&String, &Usage)| {
        let then = empty.get(name).map_or(0, |u| u.resident);
        (name.clone(), usage.resident.saturating_sub(then) as f64 / watchers as f64)
    };
    servers.map(of).collect()
}

fn told(w: &Watches) {
    if let Some(error) = &w.error {
        eprintln!(
            "{} watchers over {}, {} on a connection: not measured: {error}",
            w.watchers, w.transport, w.per_connection
        );
        return;
    }
    let idle: f64 = w.idle_bytes_per_watcher.values().sum();
    eprintln!(
        "{} watchers over {}, {} on a connection: last delivery p50 {:.1} ms, p99 {:.1} ms, {} missing, {} ended, {:.1} KiB each, opened in {:.1} s",
        w.watchers,
        w.transport,
        w.per_connection,
        w.last_p50_ms,
        w.last_p99_ms,
        w.missing,
        w.ended,
        idle / 1024.0,
        w.opening_s
    );
}
