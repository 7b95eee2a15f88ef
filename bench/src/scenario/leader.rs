//! `kill -9` of a leader. Probes are sent every 10 ms, none waits for another; the gap ends with the first acknowledgement of a
//! probe that was sent after the kill. The federation is asked through its gateway, etcd at the members that live.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use super::{CONFLUX, ETCD, pair::Pair};
use crate::{
    connection::{Connection, Protocol},
    load::{self, Requests},
    results::{LeaderKills, Results},
    statistics::{quantile, sorted},
};

/// The group of the only shard.
const GROUP: &str = "shard-a";

/// Between two probes.
const EVERY: Duration = Duration::from_millis(10);

/// No gap is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// One side, then the other, kill by kill.
pub async fn measure(pair: &mut Pair, results: &mut Results) -> Result<()> {
    pair.fill(1024).await?;
    let mut gaps = (Vec::new(), Vec::new());
    for kill in 0..pair.plan.kills {
        let leader = pair.conflux.leader(GROUP).await?;
        let connections = load::connect(&[pair.conflux.endpoint(Protocol::Http2)?], 4).await?;
        let writes = pair.space(1024).puts();
        proven(&connections, &writes).await?;
        pair.conflux.kill(&leader)?;
        gaps.0.push(gap(&connections, &writes).await.context("the federation")?);
        pair.conflux.restart(&leader).await?;

        let leader = pair.etcd.leader().await?;
        let connections = load::connect(&pair.etcd.endpoints_without(&leader)?, 4).await?;
        let writes = pair.etcd.puts(1024, pair.plan.keys(1024));
        proven(&connections, &writes).await?;
        pair.etcd.kill(&leader).await?;
        gaps.1.push(gap(&connections, &writes).await.context("etcd")?);
        pair.etcd.restart(&leader).await?;
        if kill % 10 == 9 {
            eprintln!("{} of {} leaders killed", kill + 1, pair.plan.kills);
        }
    }
    results.leader_kills.clear();
    for (side, gaps_ms) in [(CONFLUX, gaps.0), (ETCD, gaps.1)] {
        let sorted = sorted(gaps_ms.clone());
        eprintln!(
            "{} leader kills of {side}: gap p50 {:.0} ms, most {:.0} ms",
            sorted.len(),
            quantile(&sorted, 0.5),
            quantile(&sorted, 1.0)
        );
        results.leader_kills.push(LeaderKills { side: side.into(), gaps_ms });
    }
    Ok(())
}

/// Each connection has carried a write: what is measured is not the opening of connections.
async fn proven(connections: &[Arc<Connection>], writes: &Requests) -> Result<()> {
    let start = Instant::now();
    for (n, connection) in connections.iter().enumerate() {
        // Just after a restart a write may still be refused.
        while let Err(error) = connection.call(writes.of(number(n))).await {
            if start.elapsed() > LONGEST {
                return Err(error.context("no write succeeds before the kill"));
            }
            tokio::time::sleep(EVERY).await;
        }
    }
    Ok(())
}

/// Numbers that differ from run to run, so that no put is of what is there already.
fn number(n: usize) -> u64 {
    static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1 << 36);
    LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + ((n as u64) << 33)
}

async fn gap(connections: &[Arc<Connection>], writes: &Requests) -> Result<f64> {
    let killed = Instant::now();
    let (sender, mut first) = mpsc::channel(1);
    let probing = async {
        for n in 0.. {
            let (connection, request) = (Arc::clone(&connections[n % connections.len()]), writes.of(number(n)));
            let sender = sender.clone();
            tokio::spawn(async move {
                if connection.call(request).await.is_ok() {
                    // Full: an earlier one was acknowledged.
                    let _ = sender.try_send(Instant::now());
                }
            });
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = probing => anyhow::bail!("no more probes"),
        at = first.recv() => Ok((at.context("a probe")? - killed).as_secs_f64() * 1e3),
        () = tokio::time::sleep(LONGEST) => anyhow::bail!("no write succeeds {LONGEST:?} after a leader's death"),
    }
}
