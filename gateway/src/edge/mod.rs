//! The edge: stale fetches that the gateway answers by itself, from the release sets of hot configs (docs/adr/0005-edge-reads.md).
//!
//! A set is filled by one call to a shard (`fill.rs`), kept in a cache of bounded bytes (`sets.rs`), and true until the tenant's
//! feed tells of a change of its config. How old that is at most the feed's members vouch for, when asked. What cannot
//! be answered exactly as a shard would, honestly and within the bound, goes to a shard as ever.

mod answerable;
mod asked;
mod counters;
mod demand;
mod fill;
mod outages;
mod set;
mod sets;
mod tenants;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::body::Body;
use conflux_common::{
    ids::GroupName,
    planted,
    settings::{Problems, Validate},
};
use http::Response;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinHandle};

pub use self::{answerable::Answerable, asked::Asked};
use self::{counters::Counters, demand::Demand, outages::Outages, set::Set, sets::Sets, tenants::Tenants};
use crate::{
    routes::TenantRoute,
    upstream::Upstream,
    watch::{self, Vouched},
};

/// A call that fills a set may have so many others beside it.
const FILLS: usize = 8;
/// Of the bytes that the edge may hold, so many parts are for the cache and one for what is being filled.
const PARTS: u64 = 4;
/// How often unused tenants are let go and sets that nobody can be served from are thrown away.
const SWEEP: Duration = Duration::from_secs(5);

/// What the edge may hold, and how old an answer may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Bytes of release sets (rules, contents and what belongs to them); 0: every fetch goes to a shard. Default 64 MiB. A set
    /// takes a thirty-second part of it at most.
    pub bytes: u64,
    /// Milliseconds that an answer may be old at most; what would be older goes to a shard. Default 1000.
    pub max_age_ms: u64,
    /// Tenants of which sets are held at a time. Each costs the shards a subscription on this gateway's feed. Default 1024.
    pub tenants: usize,
    /// While a whole shard cannot be reached, fetches are answered beyond `max_age_ms` too, marked `X-Conflux-Stale: outage`.
    /// Default false: they fail.
    pub serve_stale_on_outage: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bytes: 64 << 20, max_age_ms: 1_000, tenants: 1024, serve_stale_on_outage: false }
    }
}

impl Validate for Settings {
    fn validate(&self, problems: &mut Problems) {
        let bytes = self.bytes == 0 || (1 << 20..=64 << 30).contains(&self.bytes);
        problems.require(bytes, "bytes", "0 (no edge reads), or 1 MiB to 64 GiB");
        problems.require((100..=60_000).contains(&self.max_age_ms), "max_age_ms", "100 to 60000");
        problems.require((1..=100_000).contains(&self.tenants), "tenants", "1 to 100000");
    }
}

/// What the edge knows of a fetch.
pub enum Look {
    /// The answer.
    Answer(Response<Body>),
    /// It could, but for the age of what it has.
    TooOld(Answerable),
    /// A shard must be asked.
    Nothing,
}

/// See the module.
pub struct Edge {
    settings: Settings,
    sets: Arc<Sets>,
    tenants: Tenants,
    demand: Demand,
    fills: Semaphore,
    outages: Outages,
    upstream: Upstream,
    counters: Counters,
    sweeper: OnceLock<Sweeper>,
}

struct Sweeper(JoinHandle<()>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Edge {
    /// None where the settings say so. Nothing is followed before something is hot.
    pub fn new(settings: Settings, watches: Arc<watch::Lane>, upstream: Upstream) -> Option<Arc<Self>> {
        let bytes = settings.bytes;
        (bytes > 0).then(|| {
            let sets = Arc::new(Sets::new(bytes - bytes / PARTS));
            Arc::new(Self {
                tenants: Tenants::new(settings.tenants, watches, sets.clone()),
                sets,
                demand: Demand::default(),
                fills: Semaphore::new(FILLS),
                outages: Outages::default(),
                upstream,
                counters: Counters::default(),
                sweeper: OnceLock::new(),
                settings,
            })
        })
    }

    /// What is known of this fetch here. A config that is asked for again and again, and is not held, is filled beside it.
    pub fn look(self: &Arc<Self>, asked: &Asked<'_>, route: &TenantRoute) -> Look {
        let Some((set, vouched)) = self.held(asked.what, route) else {
            self.counters.misses.increment(1);
            if self.demand.is_hot(route.id, asked.what) {
                self.clone().fill(route.clone(), asked.what.into());
            }
            return Look::Nothing;
        };
        let Some(answerable) = Answerable::of(set, &vouched, asked) else {
            self.counters.misses.increment(1);
            return Look::Nothing;
        };
        let age_ms = answerable.age_ms();
        if age_ms < self.settings.max_age_ms {
            self.counters.hits.increment(1);
            Look::Answer(answerable.response(if planted::has("young_edge") { 0 } else { age_ms }))
        } else {
            self.counters.misses.increment(1);
            Look::TooOld(answerable)
        }
    }

    /// The set of a config, and how far it is known to be true. First what the feed has told is read, then the set: one that is
    /// still there then was changed by nothing of that.
    fn held(&self, what: &str, route: &TenantRoute) -> Option<(Arc<Set>, Vouched)> {
        let tenant = self.tenants.get(route.id)?;
        let vouched = tenant.vouched().filter(|vouched| vouched.epoch == route.epoch)?;
        let set = self.sets.get(route.id, what).filter(|set| set.is_of(&tenant, &vouched))?;
        Some((set, vouched))
    }

    /// Whether an answer beyond the bound is better than none.
    pub fn outlasts_outages(&self) -> bool {
        self.settings.serve_stale_on_outage
    }

    /// For how long a shard of which something is held is asked, before what is held will do.
    pub fn patience(&self, group: &GroupName) -> Option<Duration> {
        self.outages.patience(group, Instant::now())
    }

    /// A shard did not answer in that time.
    pub fn note_outage(&self, group: &GroupName) {
        self.outages.note(group, Instant::now());
    }

    /// The answer while the shard is out.
    pub fn outlast(&self, answerable: &Answerable) -> Response<Body> {
        self.counters.outages.increment(1);
        answerable.response_of_outage()
    }

    fn start(self: &Arc<Self>) {
        let edge = Arc::downgrade(self);
        self.sweeper.get_or_init(|| {
            Sweeper(tokio::spawn(async move {
                let mut tick = tokio::time::interval(SWEEP);
                loop {
                    tick.tick().await;
                    let Some(edge) = edge.upgrade() else { return };
                    edge.sweep();
                }
            }))
        });
    }

    fn sweep(&self) {
        self.tenants.release_unused();
        let may_be_used = |tenant, set: &Set| match self.tenants.get(tenant) {
            Some(followed) => match followed.peek() {
                Some(vouched) => set.is_of(&followed, &vouched),
                // Its feed is being joined anew: it may go on where it was.
                None => set.may_be_of(&followed),
            },
            None => false,
        };
        self.sets.retain(may_be_used);
        self.counters.tell(self.sets.bytes(), self.sets.len(), self.tenants.len());
    }
}
