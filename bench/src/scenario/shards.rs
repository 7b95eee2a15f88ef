//! Two shard groups: changes of two tenants, one on each, against changes of one tenant on one of them. What two groups add where
//! all of it shares the processors and the disk of one machine.

use anyhow::Result;

use super::{
    Bench, ETCD, Kind,
    pair::{CONFLUX, case, measured},
};
use crate::{
    compare::Side,
    conflux::{Federation, Setup, Space},
    connection::Protocol,
    etcd::Etcd,
    load,
    results::Results,
};

/// What the page calls it.
const NAME: &str = "put and release, two shards and one / put";

/// Configs, on both sides.
const CONFIGS: u64 = 1000;

/// A federation of two groups of its own, and an etcd.
pub async fn measure(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let setup = Setup { shards: Some(2), ..Setup::default() };
    let federation = Federation::start(&bench.run.conflux, &bench.base, &setup).await?;
    let etcd = Etcd::start(&bench.run.etcd, &bench.base, &[]).await?;
    let endpoints = vec![federation.endpoint(Protocol::Http2)?];
    let mut both = federation.tenants("on-a-", 1, "shard-a").await?;
    let one = Space::new(both.clone(), "one", 1024, CONFIGS);
    both.extend(federation.tenants("on-b-", 1, "shard-b").await?);
    let two = Space::new(both, "two", 1024, CONFIGS);
    for space in [&one, &two] {
        load::fill(&endpoints, &space.first_puts(), 0..CONFIGS, 32).await?;
    }
    load::fill(&etcd.endpoints()?, &etcd.first_puts(1024, CONFIGS), 0..CONFIGS, 32).await?;
    let conflux = |name: &str, space: &Space| Side {
        name: name.into(),
        endpoints: endpoints.clone(),
        requests: space.puts(),
        processes: federation.processes(),
    };
    let puts = etcd.puts(1024, CONFIGS);
    let peer = Side { name: ETCD.into(), endpoints: etcd.endpoints()?, requests: puts, processes: etcd.processes() };
    let sides = [conflux("conflux, two shards", &two), conflux(CONFLUX, &one), peer];
    for concurrency in [64, 256] {
        measured(results, case(&bench.plan, Kind::Shards, NAME, 1024, concurrency), &sides).await?;
    }
    Ok(())
}
