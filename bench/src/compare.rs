//! The same load on both sides in alternating windows.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Result;

use crate::{
    connection::{Connection, Endpoint},
    load::{self, Requests, Shape},
    process::{self, Groups},
    results::{Comparison, Round, Window},
    scenario::Kind,
    statistics::spread,
};

/// What one side is asked.
pub struct Side {
    pub endpoints: Vec<Endpoint>,
    pub requests: Requests,
    pub processes: Groups,
}

/// What is compared.
pub struct Case {
    pub kind: Kind,
    pub name: String,
    pub value_bytes: usize,
    pub shape: Shape,
    pub rounds: usize,
}

struct Driven<'a> {
    side: &'a Side,
    connections: Vec<Arc<Connection>>,
    next: Arc<AtomicU64>,
}

impl<'a> Driven<'a> {
    async fn warm(side: &'a Side, shape: Shape) -> Result<Self> {
        let connections = load::connect(&side.endpoints, shape.concurrency).await?;
        let driven = Self { side, connections, next: Arc::default() };
        let warm = Shape { window: Duration::from_millis(500), ..shape };
        load::drive(&driven.connections, &side.requests, warm, &driven.next).await?;
        Ok(driven)
    }

    async fn window(&self, shape: Shape) -> Result<Window> {
        let (before, busy, start) =
            (process::look(&self.side.processes), process::machine_busy_s(), std::time::Instant::now());
        let tally = load::drive(&self.connections, &self.side.requests, shape, &self.next).await?;
        let used = process::between(&before, &process::look(&self.side.processes));
        let busy = process::machine_busy_s() - busy;
        let ours: f64 = used.values().map(|u| u.cpu_s).sum();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let at = |share: f64| tally.histogram.value_at_quantile(share);
        Ok(Window {
            seconds: tally.elapsed.as_secs_f64(),
            answered: tally.answered,
            failed: tally.failed,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            max_us: tally.histogram.max(),
            failure: tally.failure,
            used,
            others: ((busy - ours) / (start.elapsed().as_secs_f64() * cores)).max(0.0),
        })
    }
}

/// Runs a case; who begins changes from round to round.
pub async fn compare(case: Case, conflux: &Side, etcd: &Side) -> Result<Comparison> {
    let (conflux, etcd) = (Driven::warm(conflux, case.shape).await?, Driven::warm(etcd, case.shape).await?);
    let mut rounds = Vec::new();
    for round in 0..case.rounds {
        let round = if round % 2 == 0 {
            let conflux = conflux.window(case.shape).await?;
            Round { conflux, etcd: etcd.window(case.shape).await? }
        } else {
            let etcd = etcd.window(case.shape).await?;
            Round { conflux: conflux.window(case.shape).await?, etcd }
        };
        rounds.push(round);
    }
    let Case { kind, name, value_bytes, shape, .. } = case;
    let compared =
        Comparison { kind, name, concurrency: shape.concurrency, value_bytes, offered: shape.offered, rounds };
    told(&compared);
    Ok(compared)
}

fn told(c: &Comparison) {
    let median = |of: fn(&Round) -> f64| spread(c.rounds.iter().map(of)).map_or(0.0, |s| s.median);
    let failed: u64 = c.rounds.iter().map(|r| r.conflux.failed + r.etcd.failed).sum();
    eprintln!(
        "{}, {} B, {} in flight{}: {:.0}/s against {:.0}/s, ratio {:.2}; p99 {:.1} ms against {:.1} ms; {failed} failed; others used {:.0} % of the processors",
        c.name,
        c.value_bytes,
        c.concurrency,
        c.offered.map(|rate| format!(", {rate:.0}/s offered")).unwrap_or_default(),
        median(|r| r.conflux.rate()),
        median(|r| r.etcd.rate()),
        median(|r| r.conflux.rate() / r.etcd.rate()),
        median(|r| r.conflux.p99_us as f64) / 1e3,
        median(|r| r.etcd.p99_us as f64) / 1e3,
        100.0 * median(|r| (r.conflux.others + r.etcd.others) / 2.0),
    );
    for failure in c.rounds.iter().flat_map(|r| [&r.conflux.failure, &r.etcd.failure]).flatten().take(2) {
        eprintln!("  a failure: {failure}");
    }
}
