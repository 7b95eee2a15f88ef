//! One seed from founding to verdict.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    fs,
    path::Path,
    rc::Rc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use conflux_common::tls::TlsContext;
use rand::Rng;
use serde_json::{Value, json};
use turmoil::Sim;

use crate::{
    clients::{
        CONFIGS, Gateway, Phase, Shared, TENANTS,
        operator::Operator,
        reader,
        routes::{Routes, pause},
        watcher::Watcher,
        writer,
    },
    history::{Ended, History, Level, Register, Violation},
    invariants::{self, Evidence},
    nemesis::{Nemesis, USUAL_LATENCY},
    observe::{self, Observed},
    plan::{self, HARM_MS},
    world::{WITNESSES, hosts, libc, place, trace},
};

/// The hosts of clients.
const GATEWAYS: [&str; 2] = ["gateway-1", "gateway-2"];
const WRITERS: usize = 2;
const READERS: usize = 2;
/// One step of the simulation.
const TICK: Duration = Duration::from_millis(1);
/// To found three groups and to make the tenants.
const BOOT_MS: u64 = 60_000;
/// To be whole again after the last fault.
const HEAL_MS: u64 = 40_000;
/// For replicas and watchers to have everything once there is no more load.
const QUIET_MS: u64 = 20_000;
/// The states of all members are looked at so often.
const OBSERVE_EVERY_MS: u64 = 500;

/// What came of a seed.
pub struct Outcome {
    /// What does not hold; empty: all holds.
    pub violations: Vec<Violation>,
    /// Counts of what was done.
    pub totals: Value,
}

/// What the simulation and its clients tell one another.
struct Stage {
    shared: Rc<Shared>,
    /// Tenants that are to move.
    asked_moves: RefCell<VecDeque<usize>>,
    /// Load that has not ended.
    busy: Cell<usize>,
    /// Every tenant takes writes and answers reads again.
    alive: Cell<bool>,
    /// No move is under way, and this is where tenants are.
    homes: RefCell<Option<BTreeMap<usize, String>>>,
}

/// Runs a seed in the current directory, which must be empty.
pub fn run(seed: u64) -> Result<Outcome> {
    fs::create_dir(WITNESSES)?;
    libc::enter(seed);
    let (ca, members) = hosts::settings(Path::new("certificates"))?;
    let history = Rc::new(History::default());
    let stage = Rc::new(Stage {
        shared: Rc::new(Shared::new(history.clone())),
        asked_moves: RefCell::default(),
        busy: Cell::new(0),
        alive: Cell::new(false),
        homes: RefCell::default(),
    });
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(libc::BEGINNING_S))
        .simulation_duration(Duration::from_secs(100_000))
        .tick_duration(TICK)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(USUAL_LATENCY)
        .tcp_capacity(1 << 12)
        .rng_seed(seed)
        .build();
    for member in members {
        let history = history.clone();
        sim.host(member.name(), move || member.clone().run(history.clone()));
    }
    for (number, name) in GATEWAYS.into_iter().enumerate() {
        let tls = TlsContext::load(ca.issue(&format!("conflux://{}/gateway/{name}", hosts::CLUSTER)))?;
        let shared = stage.shared.clone();
        let gateway = Rc::new(Gateway { name: name.into(), tls, routes: Routes::default(), shared });
        sim.client(name, load(seed, number as u64, gateway, stage.clone()));
    }
    let tls = TlsContext::load(ca.issue(&format!("conflux://{}/operator/operator-1", hosts::CLUSTER)))?;
    sim.client("operator-1", operate(Operator::new(tls, stage.shared.clone()), stage.clone()));
    Course { sim, stage, history, observed: Vec::new(), seed }.run()
}

/// A gateway's clients.
async fn load(seed: u64, number: u64, gateway: Rc<Gateway>, stage: Rc<Stage>) -> turmoil::Result {
    place::enter(&gateway.name);
    let random = |purpose| plan::random(seed, 1000 * (number + 1) + purpose);
    for n in 0..WRITERS {
        let (gateway, stage) = (gateway.clone(), stage.clone());
        stage.busy.set(stage.busy.get() + 1);
        let random = random(n as u64);
        tokio::task::spawn_local(async move {
            writer::run(gateway, n, random).await;
            stage.busy.set(stage.busy.get() - 1);
        });
    }
    for n in 0..READERS {
        let (gateway, stage) = (gateway.clone(), stage.clone());
        stage.busy.set(stage.busy.get() + 1);
        let random = random(100 + n as u64);
        tokio::task::spawn_local(async move {
            reader::run(gateway, random).await;
            stage.busy.set(stage.busy.get() - 1);
        });
    }
    for tenant in 0..TENANTS {
        let watcher = Watcher::new(gateway.clone(), tenant, random(200 + tenant as u64));
        tokio::task::spawn_local(watcher.run());
    }
    if number == 0 {
        prove_liveness(&gateway, &stage).await;
    }
    std::future::pending().await
}

/// Once everything is healed: each tenant takes a write and answers a linearizable read.
async fn prove_liveness(gateway: &Gateway, stage: &Stage) {
    while stage.shared.phase.get() < Phase::Heal {
        pause(200).await;
    }
    for tenant in 0..TENANTS {
        let register = Register { tenant, config: CONFIGS };
        let mut tries = 0;
        loop {
            tries += 1;
            let content = format!("alive-{tenant}-{tries}");
            let put = gateway.put(register, content.clone(), content, None).await;
            if matches!(put, Ended::Done(_)) && gateway.fetch(register, Level::Linearizable, 0).await {
                break;
            }
            pause(100).await;
        }
    }
    trace::note("every tenant takes writes and answers reads");
    stage.alive.set(true);
}

async fn operate(operator: Operator, stage: Rc<Stage>) -> turmoil::Result {
    place::enter("operator-1");
    operator.make_tenants().await;
    stage.shared.phase.set(Phase::Harm);
    trace::note("the federation is ready");
    loop {
        let next = stage.asked_moves.borrow_mut().pop_front();
        match next {
            Some(tenant) => operator.move_tenant(tenant).await,
            None if stage.shared.phase.get() >= Phase::Heal => break,
            None => pause(50).await,
        }
    }
    operator.moves_have_ended().await;
    let places = operator.places().await;
    let mut homes = BTreeMap::new();
    for (at, tenant) in stage.shared.tenants.borrow().iter().enumerate() {
        if let Some(place) = places.iter().find(|place| place["name"] == tenant.name.as_str()) {
            homes.insert(at, place["shard"].as_str().unwrap_or_default().to_owned());
        }
    }
    trace::note(format_args!("no move is under way; tenants are at {homes:?}"));
    *stage.homes.borrow_mut() = Some(homes);
    std::future::pending().await
}

/// The simulation while it runs.
struct Course<'a> {
    sim: Sim<'a>,
    stage: Rc<Stage>,
    history: Rc<History>,
    observed: Vec<Observed>,
    seed: u64,
}

impl Course<'_> {
    fn run(mut self) -> Result<Outcome> {
        let gateways = GATEWAYS.into_iter().chain(["operator-1"]).map(str::to_owned).collect();
        let mut nemesis = Nemesis::new(plan::plan(self.seed), gateways, plan::random(self.seed, 2));
        let stage = self.stage.clone();
        let phase = move || stage.shared.phase.get();
        let mut complete = self.until(BOOT_MS, "the federation is ready", |_| phase() >= Phase::Harm)?;
        if complete {
            self.harm(&mut nemesis)?;
            self.stage.shared.phase.set(Phase::Heal);
            nemesis.heal(&mut self.sim);
            let stage = self.stage.clone();
            complete = self.until(HEAL_MS, "tenants take writes and moves have ended", |_| {
                stage.alive.get() && stage.homes.borrow().is_some()
            })?;
        }
        if complete {
            self.stage.shared.phase.set(Phase::Quiet);
            let stage = self.stage.clone();
            complete =
                self.until(QUIET_MS, "load has ended and all replicas and watchers have everything", |course| {
                    stage.busy.get() == 0 && course.is_settled()
                })?;
        }
        self.observe();
        let homes = self.stage.homes.borrow().clone().unwrap_or_default();
        let tenants = self.stage.shared.tenants.borrow().clone();
        let (history, observed) = (&*self.history, &self.observed[..]);
        let violations = invariants::check(&Evidence { history, observed, tenants: &tenants, homes: &homes, complete });
        for violation in &violations {
            trace::note(format_args!("VIOLATED {}: {}", violation.invariant, violation.what));
        }
        Ok(Outcome { violations, totals: self.totals(&nemesis) })
    }

    fn now_ms(&self) -> u64 {
        self.sim.elapsed().as_millis() as u64
    }

    fn step(&mut self) -> Result<()> {
        libc::set_time(self.sim.elapsed());
        self.sim.step().map_err(|e| anyhow!("the simulation cannot go on: {e}"))?;
        if self.now_ms().is_multiple_of(OBSERVE_EVERY_MS) {
            self.observe();
        }
        Ok(())
    }

    fn observe(&mut self) {
        self.observed.extend(observe::all(self.now_ms()));
    }

    /// Goes on until it is so. After too long that is noted as a violation, and false.
    fn until(&mut self, within_ms: u64, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) -> Result<bool> {
        let end = self.now_ms() + within_ms;
        while !is_so(self) {
            if self.now_ms() >= end {
                self.history.violated("liveness", format!("not within {within_ms} ms: {what}"));
                return Ok(false);
            }
            if !self.history.ended.borrow().is_empty() {
                return Ok(false);
            }
            self.step()?;
        }
        Ok(true)
    }

    fn harm(&mut self, nemesis: &mut Nemesis) -> Result<()> {
        let begin = self.now_ms();
        while self.now_ms() < begin + HARM_MS && self.history.ended.borrow().is_empty() {
            let passed = self.now_ms() - begin;
            let moves = nemesis.act(&mut self.sim, passed);
            self.stage.asked_moves.borrow_mut().extend(moves);
            self.step()?;
        }
        Ok(())
    }

    /// All members of each group have applied the same, and every watcher has been told all.
    fn is_settled(&mut self) -> bool {
        if !self.now_ms().is_multiple_of(100) {
            return false;
        }
        let now = observe::all(self.now_ms());
        let alike = now.iter().all(|one| {
            let group = hosts::group_of(&one.member);
            now.iter().filter(|other| hosts::group_of(&other.member) == group).all(|other| other.index == one.index)
        });
        alike && self.watchers_have_all(&now)
    }

    fn watchers_have_all(&self, now: &[Observed]) -> bool {
        let homes = self.stage.homes.borrow();
        let watched = self.history.watched.borrow();
        let tenants = self.stage.shared.tenants.borrow();
        let revision = |tenant: usize| {
            let home = homes.as_ref()?.get(&tenant)?;
            let member = now.iter().find(|one| hosts::group_of(&one.member) == home)?;
            member.tenants.iter().find(|t| t.id == tenants[tenant].id).map(|t| t.revision)
        };
        watched.iter().all(|((_, tenant), told)| {
            let last = told.iter().rev().find_map(|told| match told {
                crate::history::Told::Joined(revision) | crate::history::Told::Revision(revision, _) => Some(*revision),
                crate::history::Told::Mark(_) => None,
            });
            last.is_none() || last == revision(*tenant)
        })
    }

    fn totals(&self, nemesis: &Nemesis) -> Value {
        let puts = self.history.puts.borrow();
        let ended = |wanted: fn(&Ended) -> bool| puts.iter().filter(|put| wanted(&put.outcome)).count();
        let told: usize = self.history.watched.borrow().values().map(Vec::len).sum();
        json!({
            "calls": self.history.calls.get(),
            "writes": ended(|e| matches!(e, Ended::Done(_))),
            "refused": ended(|e| matches!(e, Ended::Refused(_))),
            "unknown": ended(|e| matches!(e, Ended::Unknown)),
            "reads": self.history.fetches.borrow().len(),
            "watched": told,
            "faults": nemesis.done,
            "lost_writes": nemesis.lost_writes,
            "moves": self.history.moves.get(),
            "simulated_ms": self.now_ms(),
        })
    }
}

/// A directory for one run, gone with it; in memory where the machine has such a place.
pub fn directory() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let name = format!("conflux-sim-{:x}-", rand::rng().random::<u32>());
    tempfile::Builder::new().prefix(&name).tempdir_in(place).context("a directory for the run")
}
