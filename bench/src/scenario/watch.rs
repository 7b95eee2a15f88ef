//! Watchers, each on a connection of its own, while one writer makes five changes a second. What counts is the last watcher:
//! from the answer to the writer until everyone has been told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use super::{KEYS, Pair};
use crate::{
    connection::{Body, Connection, Endpoint, Protocol},
    etcd::{self, wire},
    load::Requests,
    process::{self, Groups},
    results::{Results, Watches},
    statistics::quantile,
};

/// Between two changes.
const EVERY: Duration = Duration::from_millis(200);

/// After the last change, for who is late.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watches that are opened at a time: one from now begins at the gateway with the next word of a quorum, which is half a second.
const OPENING: usize = 200;

/// How many watchers have had a revision, and when the last of them had it.
#[derive(Default)]
struct Deliveries(Mutex<HashMap<u64, (usize, Option<Instant>)>>);

impl Deliveries {
    fn note(&self, revision: u64) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(revision).or_default();
        *seen = (seen.0 + 1, Some(now));
    }

    fn of(&self, revision: u64) -> (usize, Option<Instant>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&revision).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
enum Dialect {
    Conflux,
    Etcd,
}

impl Dialect {
    fn name(self) -> &'static str {
        match self {
            Dialect::Conflux => "conflux",
            Dialect::Etcd => "etcd",
        }
    }

    /// Takes the revisions of changes off what has come; an answer without any says that the watch is open.
    fn revisions(self, buffer: &mut BytesMut) -> Result<Vec<u64>> {
        match self {
            Dialect::Conflux => sse(buffer),
            Dialect::Etcd => {
                let mut revisions = Vec::new();
                while let Some(answer) = wire::next::<wire::WatchResponse>(buffer)? {
                    revisions
                        .extend(answer.events.iter().filter_map(|e| e.kv.as_ref()).map(|kv| kv.mod_revision as u64));
                }
                Ok(revisions)
            }
        }
    }

    fn of_answer(self, answer: Bytes) -> Result<u64> {
        match self {
            Dialect::Etcd => etcd::revision_of(answer),
            Dialect::Conflux => {
                let answer: serde_json::Value = serde_json::from_slice(&answer)?;
                let text = answer["revision"].as_str().context("a revision in the answer")?;
                Ok(text.split_once('.').context("<incarnation>.<revision>")?.1.parse()?)
            }
        }
    }
}

/// Whole blocks of SSE. A frame carries every event of one revision.
fn sse(buffer: &mut BytesMut) -> Result<Vec<u64>> {
    const EVENTS: &[u8] = b"\"events\":[{\"revision\":";
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|w| w == what);
    let mut revisions = Vec::new();
    while let Some(end) = find(buffer, b"\n\n") {
        let block = buffer.split_to(end + 2);
        if find(&block, b"event: error").is_some() {
            bail!("a watch ended: {}", String::from_utf8_lossy(&block));
        }
        if let Some(at) = find(&block, EVENTS) {
            let digits: Vec<u8> = block[at + EVENTS.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
            revisions.push(std::str::from_utf8(&digits)?.parse()?);
        }
    }
    Ok(revisions)
}

struct Watched<'a> {
    dialect: Dialect,
    endpoints: Vec<Endpoint>,
    request: &'a (dyn Fn() -> Request<Body> + Sync),
    writes: Requests,
    processes: Groups,
}

/// Both sides one after the other at each number of watchers.
pub async fn measure(pair: &Pair<'_>, results: &mut Results) -> Result<()> {
    results.watches.clear();
    for count in &pair.run.watchers {
        let conflux = Watched {
            dialect: Dialect::Conflux,
            endpoints: vec![pair.conflux.endpoint(Protocol::Http2)?],
            request: &|| pair.conflux.watch(),
            writes: pair.conflux.puts(1024, KEYS, false),
            processes: pair.conflux.processes(),
        };
        let etcd = Watched {
            dialect: Dialect::Etcd,
            endpoints: pair.etcd.endpoints()?,
            request: &|| pair.etcd.watch(),
            writes: pair.etcd.puts(1024, KEYS, false),
            processes: pair.etcd.processes(),
        };
        for side in [conflux, etcd] {
            match side.told(*count, Duration::from_secs(pair.run.watch_s)).await {
                Ok(watches) => results.watches.push(watches),
                Err(error) => eprintln!("{count} watchers of {}: {error:#}", side.dialect.name()),
            }
        }
    }
    Ok(())
}

impl Watched<'_> {
    async fn told(&self, count: usize, lasting: Duration) -> Result<Watches> {
        let idle = process::look(&self.processes);
        let deliveries = Arc::new(Deliveries::default());
        let opening = Instant::now();
        // Dropping the set ends the watchers.
        let mut watchers = Watchers(Vec::new());
        let opened = (0..count).map(|n| self.open(&self.endpoints[n % self.endpoints.len()], &deliveries));
        let mut opened = futures::stream::iter(opened).buffer_unordered(OPENING);
        while let Some(watcher) = opened.next().await {
            let so_far = watchers.0.len();
            watchers.0.push(watcher.with_context(|| format!("watcher {} of {count}", so_far + 1))?);
        }
        let opening_s = opening.elapsed().as_secs_f64();
        let before = process::look(&self.processes);
        let start = Instant::now();
        let acknowledged = self.write(lasting).await?;
        let patient = Instant::now();
        let waits = |deliveries: &Deliveries| acknowledged.iter().any(|(r, _)| deliveries.of(*r).0 < count);
        while waits(&deliveries) && patient.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let used = process::between(&before, &process::look(&self.processes));
        let seconds = start.elapsed().as_secs_f64();
        let missing = acknowledged.iter().map(|(r, _)| count.saturating_sub(deliveries.of(*r).0) as u64).sum();
        let mut last: Vec<f64> = acknowledged
            .iter()
            .filter_map(|(revision, at)| Some((deliveries.of(*revision).1?, at)))
            .map(|(last, at)| last.saturating_duration_since(*at).as_secs_f64() * 1e3)
            .collect();
        last.sort_by(f64::total_cmp);
        let added = |name: &String, now: u64| {
            let then = idle.get(name).map_or(0, |u| u.resident);
            now.saturating_sub(then) as f64 / count as f64
        };
        let bytes_per_watcher: BTreeMap<_, _> = used.iter().map(|(n, u)| (n.clone(), added(n, u.resident))).collect();
        let watches = Watches {
            side: self.dialect.name().into(),
            watchers: count,
            changes: acknowledged.len(),
            opening_s,
            missing,
            last_p50_ms: quantile(&last, 0.5),
            last_p99_ms: quantile(&last, 0.99),
            last_max_ms: quantile(&last, 1.0),
            bytes_per_watcher,
            used,
            seconds,
        };
        eprintln!(
            "{count} watchers of {}: last delivery p50 {:.1} ms, p99 {:.1} ms, {missing} missing, opened in {opening_s:.1} s",
            watches.side, watches.last_p50_ms, watches.last_p99_ms
        );
        Ok(watches)
    }

    /// Opens a watch, and returns once its first bytes have come: from then on it misses nothing.
    async fn open(&self, endpoint: &Endpoint, deliveries: &Arc<Deliveries>) -> Result<JoinHandle<()>> {
        let connection = endpoint.connect().await?;
        let answer = connection.open((self.request)()).await?;
        if !answer.status().is_success() {
            bail!("status {}", answer.status());
        }
        let mut body = answer.into_body();
        let mut buffer = BytesMut::new();
        let first = tokio::time::timeout(Duration::from_secs(20), piece(&mut body)).await??;
        buffer.extend_from_slice(&first.context("a watch ended at once")?);
        let (dialect, deliveries) = (self.dialect, Arc::clone(deliveries));
        Ok(tokio::spawn(async move {
            if let Err(error) = follow(dialect, connection, body, buffer, &deliveries).await {
                eprintln!("a watch of {} ended: {error:#}", dialect.name());
            }
        }))
    }

    /// Five changes a second; the revisions and when they were acknowledged.
    async fn write(&self, lasting: Duration) -> Result<Vec<(u64, Instant)>> {
        let writer = self.endpoints[0].connect().await?;
        let mut acknowledged = Vec::new();
        let start = tokio::time::Instant::now();
        // Numbers that the comparisons have not used.
        for n in 0..(lasting.as_millis() / EVERY.as_millis()) as u32 {
            tokio::time::sleep_until(start + EVERY * n).await;
            let number = (1 << 32) + start.elapsed().as_nanos() as u64;
            let answer = writer.call((self.writes)(number)).await?;
            let at = Instant::now();
            acknowledged.push((self.dialect.of_answer(answer)?, at));
        }
        Ok(acknowledged)
    }
}

struct Watchers(Vec<JoinHandle<()>>);

impl Drop for Watchers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn piece(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn follow(
    dialect: Dialect,
    _open: Connection,
    mut body: Incoming,
    mut buffer: BytesMut,
    deliveries: &Deliveries,
) -> Result<()> {
    loop {
        for revision in dialect.revisions(&mut buffer)? {
            deliveries.note(revision);
        }
        match piece(&mut body).await? {
            Some(data) => buffer.extend_from_slice(&data),
            None => bail!("the server ended it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_taken_off_a_stream_whatever_its_pieces() {
        let text = "retry: 1\n\nid: a\nevent: progress\ndata: {\"revision\":\"1.1\",\"progress\":true}\n\n\
                    id: b\nevent: change\ndata: {\"revision\":\"1.2\",\"events\":[{\"revision\":2,\"name\":\"n\"}]}\n\n";
        let mut buffer = BytesMut::from(&text.as_bytes()[..text.len() - 1]);
        assert_eq!(sse(&mut buffer).unwrap(), Vec::<u64>::new());
        buffer.extend_from_slice(b"\n");
        assert_eq!(sse(&mut buffer).unwrap(), [2]);
        assert!(sse(&mut BytesMut::from("event: error\ndata: {}\n\n")).is_err());
    }
}
