//! Steady writers that remember what was acknowledged, and readers that remember every refusal.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::client::{Client, Place};

/// An acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    pub place: Place,
    pub config_id: String,
    pub version: u64,
    /// `<incarnation>.<revision>`
    pub revision: String,
    pub sha256: String,
    pub at: Instant,
    /// From the request to the answer.
    pub took: Duration,
}

/// Writers on configs of their own: version numbers tell whether a write was lost or doubled.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    refused: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How writers write.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    /// So many of them, each with one request in flight.
    pub writers: usize,
    /// About the size of a body.
    pub bytes: usize,
    /// Each write carries an idempotency key of the client's own.
    pub keyed: bool,
    /// From one write to the writer's next at least; none: as fast as they are answered.
    pub every: Duration,
}

impl Writers {
    /// `count` writers, each with one request in flight and bodies of about `bytes`.
    pub fn start(client: &Client, tenant: &str, prefix: &str, count: usize, bytes: usize) -> Self {
        Self::start_keyed(client, tenant, prefix, (count, bytes), false)
    }

    /// The same; `keyed`: each write carries an idempotency key of the client's own.
    pub fn start_keyed(
        client: &Client,
        tenant: &str,
        prefix: &str,
        (writers, bytes): (usize, usize),
        keyed: bool,
    ) -> Self {
        Self::start_as(client, tenant, prefix, Pattern { writers, bytes, keyed, every: Duration::ZERO })
    }

    /// Writers of this pattern.
    pub fn start_as(client: &Client, tenant: &str, prefix: &str, pattern: Pattern) -> Self {
        let (stop, acknowledged, refused) =
            <(Arc<AtomicBool>, Arc<Mutex<Vec<Acknowledged>>>, Arc<Mutex<Vec<String>>>)>::default();
        let tasks = (0..pattern.writers)
            .map(|i| {
                let place = Place::new(tenant, "load", "test", &format!("{prefix}-{i}.json"));
                let (client, stop) = (client.clone(), Arc::clone(&stop));
                let (acknowledged, refused) = (Arc::clone(&acknowledged), Arc::clone(&refused));
                tokio::spawn(async move {
                    let mut n = 0u64;
                    let mut due = tokio::time::interval(pattern.every.max(Duration::from_nanos(1)));
                    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        if !pattern.every.is_zero() {
                            due.tick().await;
                        }
                        match write(&client, &place, (n, pattern.bytes), pattern.keyed).await {
                            Ok(ack) => acknowledged.lock().push(ack),
                            Err(why) => refused.lock().push(why),
                        }
                    }
                })
            })
            .collect();
        Self { stop, acknowledged, refused, tasks }
    }

    /// How many writes were acknowledged so far.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().len()
    }

    /// When the last write was acknowledged.
    pub fn last(&self) -> Option<Instant> {
        self.acknowledged.lock().iter().map(|a| a.at).max()
    }

    /// The longest time without an acknowledgement that began before `until` and ended after `from`.
    pub fn gap(&self, from: Instant, until: Instant) -> Duration {
        let mut times: Vec<Instant> = self.acknowledged.lock().iter().map(|a| a.at).collect();
        times.sort();
        times.windows(2).filter(|w| w[1] >= from && w[0] <= until).map(|w| w[1] - w[0]).max().unwrap_or_default()
    }

    /// Ends the writers; returns what was acknowledged and what was refused.
    pub async fn finish(self) -> (Vec<Acknowledged>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer");
        }
        let acknowledged = std::mem::take(&mut *self.acknowledged.lock());
        let refused = std::mem::take(&mut *self.refused.lock());
        (acknowledged, refused)
    }
}

/// A JSON document of about this size that no other write has.
pub fn document(n: u64, bytes: usize) -> Vec<u8> {
    let head = format!("{{\"n\":{n},\"unique\":\"{}\",\"pad\":\"", uuid::Uuid::new_v4());
    let pad = bytes.saturating_sub(head.len() + 2);
    let mut text = head.into_bytes();
    text.resize(text.len() + pad, b'x');
    text.extend_from_slice(b"\"}");
    text
}

async fn write(client: &Client, place: &Place, (n, bytes): (u64, usize), keyed: bool) -> Result<Acknowledged, String> {
    let asked = Instant::now();
    let content = document(n, bytes);
    let sha256 = hex::encode(Sha256::digest(&content));
    let key = uuid::Uuid::new_v4().to_string();
    let headers = [("idempotency-key", key.as_str())];
    let headers = if keyed { &headers[..] } else { &[] };
    let answer = client.put_with(place, content, headers).await.map_err(|e| format!("{e:#}"))?;
    if !matches!(answer.status, 200 | 201) {
        return Err(format!("{} {}", answer.status, answer.text()));
    }
    let json = answer.json();
    Ok(Acknowledged {
        place: place.clone(),
        config_id: json["config_id"].as_str().unwrap_or_default().to_owned(),
        version: json["version"].as_u64().unwrap_or_default(),
        revision: json["revision"].as_str().unwrap_or_default().to_owned(),
        sha256,
        at: Instant::now(),
        took: asked.elapsed(),
    })
}

/// The median, the 99th percentile and the longest of these, in milliseconds.
pub fn percentiles(mut took: Vec<Duration>) -> [u128; 3] {
    took.sort_unstable();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1)));
    [at(50), at(99), took.last()].map(|d| d.map_or(0, Duration::as_millis))
}

/// Checks that every acknowledged write is a version of its config with its content's hash, that no two
/// acknowledgements share a version, and that no revision was given twice.
pub async fn verify(client: &Client, tenant: &str, acknowledged: &[Acknowledged]) {
    let mut by_config: BTreeMap<&str, BTreeMap<u64, &Acknowledged>> = BTreeMap::new();
    let mut revisions = std::collections::BTreeSet::new();
    for ack in acknowledged {
        assert!(revisions.insert(&ack.revision), "revision {} was acknowledged twice", ack.revision);
        let twin = by_config.entry(&ack.config_id).or_default().insert(ack.version, ack);
        assert!(twin.is_none(), "version {} of {} was acknowledged twice", ack.version, ack.config_id);
    }
    for (config, versions) in by_config {
        let mut stored = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/mgt/{tenant}/configs/{config}/versions?limit=1000&cursor={cursor}");
            let page = client.get(&path).await.unwrap().expect(&[200]).unwrap().json();
            for v in page["versions"].as_array().unwrap() {
                stored.insert(v["number"].as_u64().unwrap(), v["hash"].as_str().unwrap().to_owned());
            }
            cursor = page["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        for (number, ack) in versions {
            let hash = stored.get(&number).unwrap_or_else(|| panic!("version {number} of {config} was lost"));
            assert_eq!(hash.trim_start_matches("sha256:"), ack.sha256, "version {number} of {config}");
        }
    }
}

/// A reader of one config; every answer that is not 200 or 304 is remembered.
pub struct StaleReader {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl StaleReader {
    /// Reads as fast as one connection does.
    pub fn start(client: &Client, place: Place) -> Self {
        Self::start_at(client, place, "")
    }

    /// The same with a query, such as `?consistency=linearizable`.
    pub fn start_at(client: &Client, place: Place, query: &'static str) -> Self {
        let (stop, served, refused) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<Mutex<Vec<String>>>)>::default();
        let (c, s, n, r) = (client.clone(), Arc::clone(&stop), Arc::clone(&served), Arc::clone(&refused));
        let task = tokio::spawn(async move {
            while !s.load(Ordering::Relaxed) {
                match c.fetch(&place, query).await {
                    Ok(a) if a.status == 200 => {
                        n.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(a) => r.lock().push(format!("{} {}", a.status, a.text())),
                    Err(e) => r.lock().push(format!("{e:#}")),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { stop, served, refused, task }
    }

    /// Ends it; returns how many reads were served, and the refusals.
    pub async fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("a reader");
        let refused = std::mem::take(&mut *self.refused.lock());
        (self.served.load(Ordering::Relaxed), refused)
    }
}
