//! The same load on several sides in alternating windows.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    connection::{Connection, Endpoint},
    load::{self, Requests, Shape},
    process::{self, Groups},
    results::{Comparison, Measured, Window},
    scenario::Kind,
};

/// Before the first window of each side.
const WARMING: Duration = Duration::from_millis(500);

/// What one side is asked.
#[derive(Clone)]
pub struct Side {
    pub name: String,
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

/// A side that is connected and warm.
pub struct Driven {
    side: Side,
    connections: Vec<Arc<Connection>>,
    next: Arc<AtomicU64>,
}

impl Driven {
    /// Opens the connections and uses them for a moment.
    pub async fn warm(side: &Side, shape: Shape) -> Result<Self> {
        let connections = load::connect(&side.endpoints, shape.concurrency).await?;
        let driven = Self { side: side.clone(), connections, next: Arc::default() };
        let warm = Shape { window: WARMING.min(shape.window), ..shape };
        load::drive(&driven.connections, &driven.side.requests, warm, &driven.next).await?;
        Ok(driven)
    }

    /// One window.
    pub async fn window(&self, shape: Shape) -> Result<Window> {
        let (before, busy, start) = (process::look(&self.side.processes), process::machine_busy_s(), Instant::now());
        let tally = load::drive(&self.connections, &self.side.requests, shape, &self.next).await?;
        let used = process::between(&before, &process::look(&self.side.processes));
        let busy = process::machine_busy_s() - busy;
        let ours: f64 = used.values().map(|u| u.cpu_s).sum();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let at = |share: f64| tally.histogram.value_at_quantile(share);
        Ok(Window {
            seconds: tally.elapsed.as_secs_f64(),
            answered: tally.answered,
            bytes: tally.bytes,
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

/// Runs a case; who begins changes from round to round. The last side is the peer of the others.
pub async fn compare(case: Case, sides: &[&Side]) -> Result<Comparison> {
    let mut driven = Vec::new();
    for side in sides {
        driven.push(Driven::warm(side, case.shape).await.with_context(|| side.name.clone())?);
    }
    let mut windows = vec![Vec::new(); sides.len()];
    for round in 0..case.rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            windows[at].push(driven[at].window(case.shape).await.with_context(|| sides[at].name.clone())?);
        }
    }
    let measured = |(side, windows): (&&Side, Vec<Window>)| Measured { side: side.name.clone(), windows };
    let sides = sides.iter().zip(windows).map(measured).collect();
    let Case { kind, name, value_bytes, shape, .. } = case;
    let compared =
        Comparison { kind, name, concurrency: shape.concurrency, value_bytes, offered: shape.offered, sides };
    told(&compared);
    Ok(compared)
}

fn told(c: &Comparison) {
    let offered = c.offered.map(|rate| format!(", {rate:.0}/s offered")).unwrap_or_default();
    eprintln!("{}, {} B, {} in flight{offered}:", c.name, c.value_bytes, c.concurrency);
    for side in &c.sides {
        let ratio = c.ratio(side, Window::rate).map_or(0.0, |s| s.median);
        eprintln!(
            "  {:20} {:8.0}/s, ratio {ratio:.2}; p50 {:.2} ms, p99 {:.2} ms; {} failed; others used {:.0} % of the processors",
            side.side,
            side.median(Window::rate),
            side.median(|w| w.p50_us as f64) / 1e3,
            side.median(|w| w.p99_us as f64) / 1e3,
            side.failed(),
            100.0 * side.median(|w| w.others),
        );
        if let Some(failure) = side.windows.iter().find_map(|w| w.failure.as_ref()) {
            eprintln!("    a failure: {failure}");
        }
    }
}
