//! From nothing to the first acknowledged write: `conflux dev` with what it starts by default, and three members of etcd. Then what
//! each process uses while nobody asks for anything.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Request;

use super::{Bench, CONFLUX, ETCD};
use crate::{
    conflux::{Federation, Setup, Space, TENANT},
    connection::{Body, Endpoint, Protocol},
    etcd::Etcd,
    process::{self, Groups},
    results::{Results, Starts},
    statistics::{quantile, sorted},
};

/// Until what a start does besides is done.
const SETTLING: Duration = Duration::from_secs(5);

/// One side, then the other, start by start.
pub async fn measure(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let mut conflux = Starts { side: CONFLUX.into(), first_write_ms: vec![], idle_s: 0.0, idle: Default::default() };
    let mut etcd = Starts { side: ETCD.into(), ..conflux.clone() };
    for n in 0..bench.plan.starts {
        let last = n + 1 == bench.plan.starts;
        let start = Instant::now();
        let federation = Federation::start(&bench.run.conflux, &bench.base, &Setup::default()).await?;
        let tenant = federation.tenant_by_its_key()?;
        let puts = Space::new(vec![tenant], "start", 1024, 1).first_puts();
        acknowledged(&federation.endpoint(Protocol::Http2)?, || puts.of(0)).await.context(TENANT)?;
        conflux.first_write_ms.push(start.elapsed().as_secs_f64() * 1e3);
        if last {
            idle(&mut conflux, &federation.each_process(), bench.plan.idle).await;
        }
        drop(federation);

        let start = Instant::now();
        let members = Etcd::start(&bench.run.etcd, &bench.base, &[]).await?;
        let puts = members.first_puts(1024, 1);
        acknowledged(members.endpoints()?.first().context("a member")?, || puts.of(0)).await.context("etcd")?;
        etcd.first_write_ms.push(start.elapsed().as_secs_f64() * 1e3);
        if last {
            idle(&mut etcd, &members.each_process(), bench.plan.idle).await;
        }
    }
    for starts in [&conflux, &etcd] {
        let times = sorted(starts.first_write_ms.clone());
        let cpu: f64 = starts.idle.values().map(|u| u.cpu_s).sum::<f64>() / starts.idle_s;
        let resident: u64 = starts.idle.values().map(|u| u.resident).sum();
        eprintln!(
            "{}: first write after {:.0} ms; idle: {:.1} % of a processor, {} MiB",
            starts.side,
            quantile(&times, 0.5),
            100.0 * cpu,
            resident >> 20
        );
    }
    results.starts = vec![conflux, etcd];
    Ok(())
}

async fn acknowledged(endpoint: &Endpoint, request: impl Fn() -> Request<Body>) -> Result<Bytes> {
    let start = Instant::now();
    loop {
        let tried = async { endpoint.connect().await?.call(request()).await };
        match tried.await {
            Ok(answer) => return Ok(answer),
            Err(error) if start.elapsed() > Duration::from_secs(30) => return Err(error.context("no write succeeds")),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn idle(starts: &mut Starts, processes: &Groups, lasting: Duration) {
    tokio::time::sleep(SETTLING).await;
    let (before, start) = (process::look(processes), Instant::now());
    tokio::time::sleep(lasting).await;
    starts.idle = process::between(&before, &process::look(processes));
    starts.idle_s = start.elapsed().as_secs_f64();
    starts.idle.remove("driver");
}
