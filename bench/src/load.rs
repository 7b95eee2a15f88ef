//! Closed and open loops. A closed loop sends the next request when the last is answered, and shows what a side can do. An open loop
//! sends at a rate whatever the answers do, and counts each from when it was due: coordinated omission is not possible.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use http::Request;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{Body, Connection, Endpoint};

/// The request of a number; its URI is a path.
pub type Requests = Arc<dyn Fn(u64) -> Request<Body> + Send + Sync>;

/// What no answer may take.
const LONGEST: Duration = Duration::from_secs(20);

/// More than so many connections are not opened for one load: 256 requests in flight go over 64.
pub const CONNECTIONS: usize = 64;

/// How a window is driven.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Requests in flight; of an open loop, the most of them.
    pub concurrency: usize,
    /// How long.
    pub window: Duration,
    /// Requests per second of an open loop.
    pub offered: Option<f64>,
}

/// What came of it.
pub struct Tally {
    /// Latency in microseconds.
    pub histogram: Histogram<u64>,
    /// Answers within the window.
    pub answered: u64,
    /// Calls that failed.
    pub failed: u64,
    /// The first of them.
    pub failure: Option<String>,
    /// From start to end.
    pub elapsed: Duration,
}

impl Tally {
    fn new() -> Result<Self> {
        let histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { histogram, answered: 0, failed: 0, failure: None, elapsed: Duration::ZERO })
    }

    fn note(&mut self, outcome: Result<bytes::Bytes>, latency: Duration, in_time: bool) {
        match outcome {
            Ok(_) => {
                self.answered += u64::from(in_time);
                self.histogram.saturating_record(latency.as_micros().max(1) as u64);
            }
            Err(error) => {
                self.failed += 1;
                self.failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    /// Of two windows of one load.
    pub fn sum(mut self, other: Self) -> Result<Self> {
        let elapsed = self.elapsed + other.elapsed;
        self.add(other)?;
        Ok(Self { elapsed, ..self })
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.histogram.add(other.histogram)?;
        self.answered += other.answered;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        Ok(())
    }
}

/// Open connections, spread over the endpoints.
pub async fn connect(endpoints: &[Endpoint], concurrency: usize) -> Result<Vec<Arc<Connection>>> {
    let mut connections = Vec::new();
    for endpoint in endpoints.iter().cycle().take(concurrency.min(CONNECTIONS)) {
        connections.push(Arc::new(endpoint.connect().await?));
    }
    Ok(connections)
}

async fn call(connection: &Connection, request: Request<Body>) -> Result<bytes::Bytes> {
    match timeout(LONGEST, connection.call(request)).await {
        Ok(answer) => answer,
        Err(_) => bail!("no answer in {LONGEST:?}"),
    }
}

/// Drives one window. `next` numbers the requests on from window to window.
pub async fn drive(
    connections: &[Arc<Connection>],
    requests: &Requests,
    shape: Shape,
    next: &Arc<AtomicU64>,
) -> Result<Tally> {
    let start = Instant::now();
    let workers: Vec<_> = (0..shape.concurrency)
        .map(|worker| {
            let connection = Arc::clone(&connections[worker % connections.len()]);
            let (requests, next) = (Arc::clone(requests), Arc::clone(next));
            tokio::spawn(async move {
                match shape.offered {
                    None => closed(&connection, &requests, start + shape.window, &next).await,
                    Some(rate) => open(&connection, &requests, (start, shape, rate, worker), &next).await,
                }
            })
        })
        .collect();
    let mut all = Tally::new()?;
    for worker in workers {
        all.add(worker.await??)?;
    }
    // Answers after the end of a closed window are in the histogram, but are no part of its rate.
    all.elapsed = shape.window;
    Ok(all)
}

async fn closed(connection: &Connection, requests: &Requests, end: Instant, next: &AtomicU64) -> Result<Tally> {
    let mut tally = Tally::new()?;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(tally);
        }
        let outcome = call(connection, requests(next.fetch_add(1, Ordering::Relaxed))).await;
        let now = Instant::now();
        tally.note(outcome, now - sent, now <= end);
    }
}

async fn open(
    connection: &Connection,
    requests: &Requests,
    (start, shape, rate, worker): (Instant, Shape, f64, usize),
    next: &AtomicU64,
) -> Result<Tally> {
    let mut tally = Tally::new()?;
    let mut turn = worker;
    loop {
        let due = start + Duration::from_secs_f64(turn as f64 / rate);
        if due >= start + shape.window {
            return Ok(tally);
        }
        sleep_until(due).await;
        if due.elapsed() > LONGEST {
            bail!("the offered rate of {rate:.0}/s is far beyond what is answered");
        }
        let outcome = call(connection, requests(next.fetch_add(1, Ordering::Relaxed))).await;
        tally.note(outcome, due.elapsed(), true);
        turn += shape.concurrency;
    }
}

/// Sends the requests of 0 to `count`, and fails with the first that fails.
pub async fn fill(endpoints: &[Endpoint], requests: &Requests, count: u64) -> Result<()> {
    let connections = connect(endpoints, 32).await?;
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = connections
        .into_iter()
        .map(|connection| {
            let (requests, next) = (Arc::clone(requests), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return anyhow::Ok(());
                    }
                    call(&connection, requests(number)).await?;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(())
}
