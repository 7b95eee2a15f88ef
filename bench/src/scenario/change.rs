//! Durable changes: a new version of one config of many and its release, in one entry, against a put of one key of as many.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    Kind,
    pair::{CONFLUX, Pair, case, loops, measured},
};
use crate::{conflux::Space, connection::Protocol, load, results::Results};

/// What the page calls it.
pub const NAME: &str = "put and release / put";
const TENANTS: &str = "put and release, many tenants / put";

/// A window of large values is as long whatever the others are: longer than an answer, and both sides keep every version three times.
const LARGE: usize = 64 << 10;
const LARGE_WINDOW: Duration = Duration::from_secs(2);

/// 1 KiB, other sizes, and many tenants.
pub async fn measure(pair: &mut Pair, results: &mut Results) -> Result<()> {
    pair.fill(1024).await?;
    let plan = pair.plan.clone();
    let conflux = pair.conflux(CONFLUX, pair.space(1024).puts(), Protocol::Http2)?;
    let etcd = pair.etcd(pair.etcd.puts(1024, plan.keys(1024)))?;
    loops(&plan, results, Kind::Change, NAME, &[conflux.clone(), etcd.clone()]).await?;

    eprintln!("making {} tenants", plan.tenants);
    let tenants = pair.conflux.tenants("many-", plan.tenants, "shard-a").await.context("many tenants")?;
    let space = Space::new(tenants, "t", 1024, plan.tenants as u64);
    let endpoints = [pair.conflux.endpoint(Protocol::Http2)?];
    load::fill(&endpoints, &space.first_puts(), 0..space.configs, 32).await.context("a config for each tenant")?;
    let name = format!("conflux, {} tenants", plan.tenants);
    let many = pair.conflux(&name, space.puts(), Protocol::Http2)?;
    measured(results, case(&plan, Kind::Change, TENANTS, 1024, 64), &[many, conflux, etcd]).await?;

    for (size, concurrency) in plan.grid() {
        pair.fill(size).await?;
        let conflux = pair.conflux(CONFLUX, pair.space(size).puts(), Protocol::Http2)?;
        let etcd = pair.etcd(pair.etcd.puts(size, plan.keys(size)))?;
        let mut case = case(&plan, Kind::Change, NAME, size, concurrency);
        if size > LARGE {
            case.shape.window = LARGE_WINDOW;
        }
        measured(results, case, &[conflux, etcd]).await?;
    }
    Ok(())
}
