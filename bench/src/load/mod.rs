//! Closed and open loops. A closed loop sends the next request when the last is answered, and shows what a side can do. An open loop
//! sends at a rate whatever the answers do, and counts each from when it was due: coordinated omission is not possible.

mod schedule;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use http::Request;
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use self::schedule::Schedule;
use crate::connection::{Body, Connection, Endpoint, Expected};

/// The requests of a load, by number; a URI is a path.
#[derive(Clone)]
pub struct Requests {
    make: Arc<dyn Fn(u64) -> Request<Body> + Send + Sync>,
    expected: Expected,
}

impl Requests {
    /// What answers with success.
    pub fn new(make: impl Fn(u64) -> Request<Body> + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), expected: Expected::Success }
    }

    /// What must answer 304.
    pub fn not_modified(self) -> Self {
        Self { expected: Expected::NotModified, ..self }
    }

    /// The request of a number.
    pub fn of(&self, number: u64) -> Request<Body> {
        (self.make)(number)
    }

    /// Mostly these; the share of `others` is in hundredths.
    pub fn with(self, others: Self, share: u64) -> Self {
        Self::new(move |number| {
            // Another sequence than the one that chooses keys.
            let of_others = crate::document::mixed(number ^ 0x5eed_0000_0000) % 100 < share;
            if of_others { others.of(number) } else { self.of(number) }
        })
    }
}

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
    /// Of answers after its end, the share of their time that was within it, together.
    late: f64,
    /// Bytes of their bodies.
    pub bytes: u64,
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
        Ok(Self { histogram, answered: 0, late: 0.0, bytes: 0, failed: 0, failure: None, elapsed: Duration::ZERO })
    }

    fn note(&mut self, outcome: Result<u64>, latency: Duration, within: f64) {
        match outcome {
            Ok(bytes) => {
                if within < 1.0 {
                    self.late += within;
                } else {
                    self.answered += 1;
                }
                self.bytes += (bytes as f64 * within) as u64;
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
        self.late += other.late;
        self.bytes += other.bytes;
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

async fn call(connection: &Connection, requests: &Requests, number: u64) -> Result<u64> {
    match timeout(LONGEST, connection.exchange(requests.of(number), requests.expected)).await {
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
    let schedule = shape.offered.map(|rate| Schedule { rate, window: shape.window });
    let mut paced = schedule.map(|s| s.pace(start, shape.concurrency)).unwrap_or_default().into_iter();
    let workers: Vec<_> = (0..shape.concurrency)
        .map(|worker| {
            let connection = Arc::clone(&connections[worker % connections.len()]);
            let (requests, next, due) = (requests.clone(), Arc::clone(next), paced.next());
            tokio::spawn(async move {
                match due {
                    None => closed(&connection, &requests, start + shape.window, &next).await,
                    Some(due) => open(&connection, &requests, due, &next).await,
                }
            })
        })
        .collect();
    let mut all = Tally::new()?;
    for worker in workers {
        all.add(worker.await??)?;
    }
    all.answered += all.late.round() as u64;
    all.elapsed = shape.window;
    Ok(all)
}

/// The share of a request's time that was before the end of the window. Left out, long answers would make a rate of nothing out of a
/// short window; counted whole, one that is higher than it was.
fn within(sent: Instant, answered: Instant, end: Instant) -> f64 {
    if answered <= end {
        return 1.0;
    }
    end.saturating_duration_since(sent).as_secs_f64() / (answered - sent).as_secs_f64()
}

async fn closed(connection: &Connection, requests: &Requests, end: Instant, next: &AtomicU64) -> Result<Tally> {
    let mut tally = Tally::new()?;
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(tally);
        }
        let outcome = call(connection, requests, next.fetch_add(1, Ordering::Relaxed)).await;
        let now = Instant::now();
        tally.note(outcome, now - sent, within(sent, now, end));
    }
}

async fn open(
    connection: &Connection,
    requests: &Requests,
    mut dues: UnboundedReceiver<Instant>,
    next: &AtomicU64,
) -> Result<Tally> {
    let mut tally = Tally::new()?;
    while let Some(due) = dues.recv().await {
        if due.elapsed() > LONGEST {
            bail!("the offered rate is far beyond what is answered: a request has waited {LONGEST:?} for its turn");
        }
        let outcome = call(connection, requests, next.fetch_add(1, Ordering::Relaxed)).await;
        tally.note(outcome, due.elapsed(), 1.0);
    }
    Ok(tally)
}

/// Sends the requests of a range of numbers, so many at a time, and fails with the first that fails.
pub async fn fill(
    endpoints: &[Endpoint],
    requests: &Requests,
    numbers: std::ops::Range<u64>,
    concurrency: usize,
) -> Result<()> {
    let connections = connect(endpoints, concurrency).await?;
    let next = Arc::new(AtomicU64::new(numbers.start));
    let workers: Vec<_> = (0..concurrency)
        .map(|worker| {
            let connection = Arc::clone(&connections[worker % connections.len()]);
            let (requests, next) = (requests.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return anyhow::Ok(());
                    }
                    call(&connection, &requests, number).await?;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_counts_as_far_as_it_was_in_the_window() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let end = start + 4 * second;
        assert_eq!(within(start, end, end), 1.0);
        assert_eq!(within(end - second, end + 3 * second, end), 0.25);
        // Two workers with answers of three seconds each: in four seconds not two, but two and two thirds.
        let mut tally = Tally::new().unwrap();
        for worker in [start, start] {
            tally.note(Ok(10), 3 * second, within(worker, worker + 3 * second, end));
            tally.note(Ok(10), 3 * second, within(worker + 3 * second, worker + 6 * second, end));
        }
        assert_eq!((tally.answered, tally.late.round()), (2, 1.0));
    }
}
