//! A federation and an etcd, side by side, with the same in both.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::{Bench, Kind};
use crate::{
    compare::{Case, Side, compare},
    conflux::{Federation, Setup, Space, Tenant},
    connection::Protocol,
    etcd::Etcd,
    load::{self, Requests, Shape},
    plan::Plan,
    results::{Results, Window},
};

/// The federation through a gateway that proxies every fetch.
pub const CONFLUX: &str = "conflux";
/// The federation through a gateway that answers stale fetches itself where it can.
pub const EDGE: &str = "conflux edge";
/// The peer.
pub const ETCD: &str = "etcd";

/// What is put first: requests in flight.
const FILLERS: usize = 32;

/// Requests before a case, so that each of a thousand configs was fetched some times; of large values there are a tenth as many.
const HEATING: u64 = 8000;
const LARGE: usize = 64 << 10;

/// Both, running.
pub struct Pair {
    pub plan: Plan,
    pub conflux: Federation,
    pub etcd: Etcd,
    pub demo: Tenant,
    /// The setting that switches edge reads off, where this build knows it.
    edge_off: Option<String>,
    filled: HashSet<usize>,
}

/// What a gateway must be told for a load that no single client makes.
pub fn roomy() -> Vec<String> {
    ["gateway:limits.max_connections=60000", "gateway:watch.max_watchers_per_principal=50000"].map(str::to_owned).into()
}

impl Pair {
    /// One shard group, with a second gateway that waits, and etcd.
    pub async fn start(bench: &Bench<'_>) -> Result<Self> {
        let setup = Setup { shards: Some(1), second_gateway: true, set: roomy(), under: Vec::new() };
        let conflux = Federation::start(&bench.run.conflux, &bench.base, &setup).await?;
        let etcd = Etcd::start(&bench.run.etcd, &bench.base, &[]).await?;
        let edge_off = Some(bench.run.edge_off.clone()).filter(|s| conflux.knows_gateway_setting(s).unwrap_or(false));
        if edge_off.is_none() {
            eprintln!("this build does not know {}: its gateway proxies every fetch", bench.run.edge_off);
        }
        let demo = conflux.demo().await?;
        Ok(Self { plan: bench.plan.clone(), conflux, etcd, demo, edge_off, filled: HashSet::new() })
    }

    /// The configs of a size.
    pub fn space(&self, size: usize) -> Space {
        Space::new(vec![self.demo.clone()], "s", size, self.plan.keys(size))
    }

    /// Puts every config and key of this size once; nothing where they are there.
    pub async fn fill(&mut self, size: usize) -> Result<()> {
        if !self.filled.insert(size) {
            return Ok(());
        }
        let keys = self.plan.keys(size);
        let (endpoints, puts) = ([self.conflux.endpoint(Protocol::Http2)?], self.space(size).first_puts());
        load::fill(&endpoints, &puts, 0..keys, FILLERS).await.context("filling the federation")?;
        let filling = load::fill(&self.etcd.endpoints()?, &self.etcd.first_puts(size, keys), 0..keys, FILLERS).await;
        filling.context("filling etcd")
    }

    /// Starts the gateway without edge reads, where there are such; [`Pair::fetching`] needs it.
    pub async fn start_proxying(&mut self) -> Result<()> {
        match self.edge_off.clone() {
            Some(setting) => self.conflux.start_second_gateway(&setting).await,
            None => Ok(()),
        }
    }

    /// Stops it.
    pub async fn stop_proxying(&mut self) -> Result<()> {
        if self.edge_off.is_some() { self.conflux.stop_second_gateway().await } else { Ok(()) }
    }

    /// The federation as it is by default.
    pub fn conflux(&self, name: &str, requests: Requests, protocol: Protocol) -> Result<Side> {
        let endpoints = vec![self.conflux.endpoint(protocol)?];
        Ok(Side { name: name.into(), endpoints, requests, processes: self.conflux.processes() })
    }

    /// What edge reads matter to: with them and, by the other gateway, without.
    pub fn fetching(&self, requests: &Requests, protocol: Protocol) -> Result<Vec<Side>> {
        if self.edge_off.is_none() {
            return Ok(vec![self.conflux(CONFLUX, requests.clone(), protocol)?]);
        }
        Ok(vec![self.conflux(EDGE, requests.clone(), protocol)?, self.proxying(requests, protocol)?])
    }

    /// The federation by a gateway that proxies every fetch.
    pub fn proxying(&self, requests: &Requests, protocol: Protocol) -> Result<Side> {
        if self.edge_off.is_none() {
            return self.conflux(CONFLUX, requests.clone(), protocol);
        }
        let (endpoint, processes) = self.conflux.second_gateway(protocol)?;
        Ok(Side { name: CONFLUX.into(), endpoints: vec![endpoint], requests: requests.clone(), processes })
    }

    /// The peer.
    pub fn etcd(&self, requests: Requests) -> Result<Side> {
        let endpoints = self.etcd.endpoints()?;
        Ok(Side { name: ETCD.into(), endpoints, requests, processes: self.etcd.processes() })
    }
}

/// A closed loop.
pub fn case(plan: &Plan, kind: Kind, name: &str, value_bytes: usize, concurrency: usize) -> Case {
    let shape = Shape { concurrency, window: plan.window, offered: None };
    Case { kind, name: name.into(), value_bytes, shape, rounds: plan.rounds }
}

/// One case, kept. What is measured of the edge is how it answers, not how it comes to know what is asked for often.
pub async fn measured(results: &mut Results, case: Case, sides: &[Side]) -> Result<()> {
    let requests = if case.value_bytes > LARGE { HEATING / 10 } else { HEATING };
    for edge in sides.iter().filter(|side| side.name == EDGE) {
        load::fill(&edge.endpoints, &edge.requests, 0..requests, 64)
            .await
            .context("fetches before the first window")?;
    }
    results.comparisons.push(compare(case, &sides.iter().collect::<Vec<_>>()).await?);
    Ok(())
}

/// A closed loop at each concurrency, then an open loop with 64 at half the rate that the slowest side has reached with 64.
pub async fn loops(plan: &Plan, results: &mut Results, kind: Kind, name: &str, sides: &[Side]) -> Result<()> {
    for concurrency in plan.concurrencies() {
        measured(results, case(plan, kind, name, 1024, *concurrency), sides).await?;
    }
    let reached = results.comparisons.iter().rfind(|c| c.kind == kind && c.name == name && c.concurrency == 64);
    let rates = reached.iter().flat_map(|c| &c.sides).map(|s| s.median(Window::rate));
    let slowest = rates.fold(f64::INFINITY, f64::min);
    if slowest.is_finite() && slowest > 1.0 {
        let mut offered = case(plan, kind, name, 1024, 64);
        offered.shape.offered = Some((slowest / 2.0).round());
        measured(results, offered, sides).await?;
    }
    Ok(())
}
