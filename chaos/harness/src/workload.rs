//! The load: clients that put, swap and read registers through the gateways, and remember every answer.
//!
//! A register is used for a while and then left, so that each history stays short enough to be searched.

mod changesets;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use conflux_tests::client::{Answer, Client};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::{
    ground::{Tenant, place},
    history::{ABSENT, Ask, Call, Clock, Micros, Told, document, revision_of, value_of},
};

pub use self::changesets::of_set;

/// Registers of a tenant in use at a time.
const REGISTERS: u64 = 8;
/// So many of a client's last acknowledged writes may be sent again: some are from before the last fault.
const REPEATABLE: usize = 64;
/// How long they are used.
const GENERATION_US: Micros = 20_000_000;

/// Revision, ETag and value of a register.
type Newest = (u64, String, u64);

/// What the clients of a run share.
pub struct Shared {
    pub clock: Clock,
    pub calls: Mutex<Vec<Call>>,
    /// Answers that no caller should ever get.
    pub odd: Mutex<Vec<String>>,
    /// The config ids of registers.
    pub configs: Mutex<HashMap<(usize, String), String>>,
    /// Of each register what was last acknowledged.
    newest: Mutex<HashMap<(usize, String), Newest>>,
    /// The last revision acknowledged to anybody, by tenant.
    revisions: Mutex<HashMap<usize, String>>,
    values: AtomicU64,
    stop: AtomicBool,
}

/// A write that may be sent again under its key.
#[derive(Clone)]
struct Unsettled {
    call: Call,
    key: String,
    if_match: Option<String>,
    /// The other registers of a changeset, and what was done to them.
    others: Vec<(String, Told)>,
}

/// See the module.
pub struct Workload {
    pub shared: Arc<Shared>,
    tasks: Vec<JoinHandle<Vec<Unsettled>>>,
    unsettled: Vec<Unsettled>,
    clients: Vec<(String, Vec<Client>)>,
}

struct Worker {
    id: usize,
    tenant: usize,
    name: String,
    clients: Vec<Client>,
    at: usize,
    rng: StdRng,
    shared: Arc<Shared>,
    /// The last writes that were acknowledged.
    done: VecDeque<Unsettled>,
}

impl Workload {
    /// `workers` clients of each tenant, together about `rate` calls a second.
    pub fn start(tenants: &[Tenant], clock: Clock, seed: u64, workers: usize, rate: u64) -> Self {
        let shared = Arc::new(Shared {
            clock,
            calls: Mutex::default(),
            odd: Mutex::default(),
            configs: Mutex::default(),
            newest: Mutex::default(),
            revisions: Mutex::default(),
            values: AtomicU64::new(1),
            stop: AtomicBool::new(false),
        });
        let pace = Duration::from_secs_f64((tenants.len() * workers) as f64 / rate as f64);
        let mut tasks = Vec::new();
        for (n, tenant) in tenants.iter().enumerate() {
            for w in 0..workers {
                let id = n * workers + w;
                let worker = Worker {
                    id,
                    tenant: n,
                    name: tenant.name.clone(),
                    clients: tenant.clients.clone(),
                    at: w,
                    rng: StdRng::seed_from_u64(seed ^ (id as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                    shared: Arc::clone(&shared),
                    done: VecDeque::new(),
                };
                tasks.push(tokio::spawn(worker.run(pace)));
            }
        }
        let clients = tenants.iter().map(|t| (t.name.clone(), t.clients.clone())).collect();
        Self { shared, tasks, unsettled: Vec::new(), clients }
    }

    /// Ends the load; what is open stays so.
    pub async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            match task.await {
                Ok(left) => self.unsettled.extend(left),
                Err(e) => self.shared.odd.lock().push(format!("a client of the harness failed: {e}")),
            }
        }
    }

    /// Sends every open write again under its key until it is answered; returns how many stayed open.
    pub async fn settle(&mut self, within: Duration) -> (usize, usize) {
        let (all, start) = (self.unsettled.len(), tokio::time::Instant::now());
        let mut left = 0;
        for mut open in std::mem::take(&mut self.unsettled) {
            let (name, clients) = &self.clients[open.call.tenant];
            let mut turn = 0;
            while open.call.told == Told::Open && start.elapsed() < within {
                attempt(&self.shared, name, &clients[turn % clients.len()], &mut open).await;
                turn += 1;
            }
            left += usize::from(open.call.told == Told::Open);
            self.shared.calls.lock().extend(open.calls());
        }
        (all, left)
    }
}

/// Sends the write once; the call then tells what is known. `false`: it was surely not received.
async fn attempt(shared: &Shared, tenant: &str, client: &Client, open: &mut Unsettled) -> bool {
    let Some(value) = open.call.writes() else { return false };
    open.call.sent += 1;
    let answer = match open.others.is_empty() {
        true => put(tenant, client, open, value).await,
        false => changesets::send(client, tenant, open, value).await,
    };
    open.call.ended = shared.clock.now();
    match answer {
        Ok(answer) => {
            open.call.told = match open.others.is_empty() {
                true => read_write(shared, &open.call, &answer),
                false => changesets::read(shared, open, &answer),
            };
            true
        }
        // Nobody was there to read it.
        Err(e) => !e.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect),
    }
}

async fn put(tenant: &str, client: &Client, open: &Unsettled, value: u64) -> anyhow::Result<Answer> {
    let mut headers = vec![("idempotency-key", open.key.as_str())];
    if let Some(etag) = &open.if_match {
        headers.push(("if-match", etag));
    }
    client.put_with(&place(tenant, &open.call.register), document(value), &headers).await
}

/// What a write's answer says of this and all earlier attempts under its key.
fn read_write(shared: &Shared, call: &Call, answer: &Answer) -> Told {
    match answer.status {
        200 | 201 => read_written(shared, call, &answer.json()),
        _ => read_failure(shared, call, answer),
    }
}

/// What is said of one register that was written.
fn read_written(shared: &Shared, call: &Call, json: &serde_json::Value) -> Told {
    let register = (call.tenant, call.register.clone());
    let text = json["revision"].as_str().unwrap_or_default();
    let (Some(revision), Some(version)) = (revision_of(text), json["version"].as_u64()) else {
        shared.odd.lock().push(format!("a write without revision or version: {json}"));
        return Told::Open;
    };
    let etag = json["etag"].as_str().unwrap_or_default().to_owned();
    if let Some(id) = json["config_id"].as_str() {
        shared.configs.lock().entry(register.clone()).or_insert_with(|| id.to_owned());
    }
    let mut newest = shared.newest.lock();
    let known = newest.entry(register).or_default();
    if known.0 < revision {
        *known = (revision, etag, call.writes().unwrap_or(ABSENT));
    }
    drop(newest);
    let mut revisions = shared.revisions.lock();
    let last = revisions.entry(call.tenant).or_default();
    if revision_of(last).unwrap_or(0) < revision {
        *last = text.to_owned();
    }
    Told::Wrote { revision, version }
}

/// What an answer says that is none of success.
fn read_failure(shared: &Shared, call: &Call, answer: &Answer) -> Told {
    match answer.status {
        412 => Told::Refused,
        // Only the first answer speaks for all attempts: an earlier one that was lost may still have its effect.
        _ if answer.json()["error"]["outcome"] == "not_applied" && call.sent == 1 => Told::NotApplied,
        status => {
            if !matches!(status, 429 | 502 | 503 | 504) && call.sent == 1 {
                shared.odd.lock().push(format!("a write was answered {status}: {}", answer.text()));
            }
            Told::Open
        }
    }
}

impl Worker {
    async fn run(mut self, pace: Duration) -> Vec<Unsettled> {
        let mut left = Vec::new();
        let mut ticks = tokio::time::interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.shared.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            match self.rng.random_range(0..100) {
                0..3 => left.extend(self.changeset().await),
                3..20 => left.extend(self.write(false).await),
                20..40 => left.extend(self.write(true).await),
                40..46 => self.repeat().await,
                46..75 => self.read().await,
                _ => self.stale().await,
            }
        }
        left
    }

    fn client(&self) -> &Client {
        &self.clients[self.at % self.clients.len()]
    }

    fn register(&mut self) -> String {
        format!("r{}-{}", self.shared.clock.now() / GENERATION_US, self.rng.random_range(0..REGISTERS))
    }

    fn call(&self, register: String, ask: Ask) -> Call {
        let now = self.shared.clock.now();
        Call {
            client: self.id,
            tenant: self.tenant,
            register,
            ask,
            told: Told::Open,
            began: now,
            ended: now,
            sent: 0,
            part: 0,
        }
    }

    /// Returns the write if its outcome stays open.
    async fn write(&mut self, swap: bool) -> Option<Unsettled> {
        let register = self.register();
        let value = self.value();
        let known = self.shared.newest.lock().get(&(self.tenant, register.clone())).cloned();
        let (ask, if_match) = match known.filter(|_| swap) {
            Some((_, etag, expected)) => (Ask::Swap { expected, value }, Some(etag)),
            None => (Ask::Put { value }, None),
        };
        let (call, key) = (self.call(register, ask), uuid::Uuid::new_v4().to_string());
        self.carry_out(Unsettled { call, key, if_match, others: Vec::new() }).await
    }

    /// One that nobody else ever writes.
    fn value(&self) -> u64 {
        self.shared.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sends a write until something is known of it, or lets it be open and returns it.
    async fn carry_out(&mut self, mut open: Unsettled) -> Option<Unsettled> {
        // Half of what stays unknown is asked again at once, through the fault; the other half after healing.
        let patient = self.rng.random_bool(0.5);
        loop {
            let received = attempt(&self.shared, &self.name, self.client(), &mut open).await;
            if open.call.told == Told::Open {
                self.at += 1;
                if !received && open.call.sent == 1 {
                    open.call.told = Told::NotApplied;
                } else if patient && !self.shared.stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                } else {
                    return Some(open);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.shared.calls.lock().extend(open.clone().calls());
            if open.call.wrote().is_some() {
                self.done.push_back(open);
                if self.done.len() > REPEATABLE {
                    self.done.pop_front();
                }
            }
            return None;
        }
    }

    /// Sends an acknowledged write again under its key: it has no second effect, which the stored versions show, and gets the
    /// first answer.
    async fn repeat(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..self.done.len());
        let done = self.done[which].clone();
        let mut again = done.clone();
        again.call.told = Told::Open;
        attempt(&self.shared, &self.name, self.client(), &mut again).await;
        let told = again.call.told;
        if matches!(told, Told::Wrote { .. } | Told::Refused) && told != done.call.told {
            self.shared.odd.lock().push(format!("another answer to the same key, {told:?}: {:?}", done.call));
        }
    }

    /// One to be read: some are of a set.
    fn any_register(&mut self) -> String {
        if self.rng.random_bool(0.2) { self.register_of_a_set() } else { self.register() }
    }

    async fn read(&mut self) {
        let register = self.any_register();
        self.fetch(register, Ask::Read, "?consistency=linearizable").await;
    }

    async fn stale(&mut self) {
        let register = self.any_register();
        let seen = self.shared.revisions.lock().get(&self.tenant).cloned().filter(|_| self.rng.random_bool(0.3));
        match seen {
            Some(seen) => {
                let floor = revision_of(&seen).unwrap_or(0);
                self.fetch(register, Ask::Stale { floor }, &format!("?consistency=stale&min_revision={seen}")).await;
            }
            None => self.fetch(register, Ask::Stale { floor: 0 }, "?consistency=stale").await,
        }
    }

    async fn fetch(&mut self, register: String, ask: Ask, query: &str) {
        let place = place(&self.name, &register);
        let mut call = self.call(register, ask);
        call.sent = 1;
        let answer = self.client().fetch(&place, query).await;
        call.ended = self.shared.clock.now();
        match answer {
            Ok(answer) => call.told = self.read_fetch(&answer),
            Err(_) => {
                self.at += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.shared.calls.lock().push(call);
    }

    fn read_fetch(&self, answer: &Answer) -> Told {
        let number = |name: &str| answer.header(name).and_then(|v| v.parse().ok());
        let revision = answer.header("x-conflux-revision").and_then(revision_of).unwrap_or(0);
        let age_ms = number("x-conflux-age-ms").unwrap_or(0);
        match answer.status {
            200 => match value_of(&answer.body) {
                Some(value) => Told::Saw { value, revision, age_ms },
                None => {
                    self.shared.odd.lock().push(format!("a content that nobody wrote: {}", answer.text()));
                    Told::Open
                }
            },
            404 => Told::Saw { value: ABSENT, revision, age_ms },
            status => {
                if !matches!(status, 429 | 502 | 503 | 504) {
                    self.shared.odd.lock().push(format!("a read was answered {status}: {}", answer.text()));
                }
                Told::NotApplied
            }
        }
    }
}
