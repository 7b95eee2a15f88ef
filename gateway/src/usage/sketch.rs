//! Fetches by tenant, config and label set, within bounds.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use conflux_common::{distinct::Distinct, ids::TenantId, labels::Labels};
use conflux_proto::internal::{ConfigUse, LabelsUse, TenantUse};

use super::Fetch;

/// Label sets of a config; further ones are counted with the config, and as dropped.
pub const LABEL_SETS_OF_CONFIG: usize = 256;
/// Label sets of a tenant.
pub const LABEL_SETS_OF_TENANT: usize = 4_096;
/// Configs of a tenant; further ones are not counted.
pub const CONFIGS_OF_TENANT: usize = 4_096;
/// Bytes of one sketch, about: of all tenants together.
pub const BYTES: usize = 32 << 20;
/// What an entry costs at most beside its texts: registers, counters, its place in a table.
const ENTRY_BYTES: usize = 384;

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    tenants: HashMap<TenantId, Tenant>,
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct Tenant {
    configs: HashMap<String, Config>,
    label_sets: usize,
}

#[derive(Debug, Clone)]
struct Config {
    all: Counted,
    by_labels: HashMap<Labels, Counted>,
    dropped: u64,
}

#[derive(Debug, Clone)]
struct Counted {
    fetches: u64,
    last: Instant,
    clients: Distinct,
}

impl Counted {
    fn nothing(at: Instant) -> Self {
        Self { fetches: 0, last: at, clients: Distinct::default() }
    }

    fn add(&mut self, client: u64, now: Instant) {
        self.fetches += 1;
        self.last = self.last.max(now);
        self.clients.insert_hash(client);
    }

    fn merge(&mut self, other: &Counted) {
        self.fetches += other.fetches;
        self.last = self.last.max(other.last);
        self.clients.merge(&other.clients);
    }

    fn age_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.last).as_millis()).unwrap_or(u64::MAX)
    }
}

fn text_bytes(labels: &Labels) -> usize {
    // Each text has its own allocation.
    labels.iter().map(|(name, value)| name.len() + value.len() + 96).sum()
}

impl Sketch {
    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Counts one fetch.
    pub(super) fn count(&mut self, fetch: &Fetch, now: Instant) {
        let Some(mut place) = self.config(fetch.tenant, &fetch.what, now) else { return };
        place.config.all.add(fetch.client, now);
        if let Some(counted) = place.labels(&fetch.labels, now) {
            counted.add(fetch.client, now);
        }
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: Sketch) {
        for (tenant, theirs) in other.tenants {
            for (what, config) in theirs.configs {
                let Some(mut place) = self.config(tenant, &what, config.all.last) else { continue };
                place.config.all.merge(&config.all);
                place.config.dropped += config.dropped;
                for (labels, counted) in config.by_labels {
                    if let Some(own) = place.labels(&labels, counted.last) {
                        own.merge(&counted);
                    }
                }
            }
        }
    }

    fn config(&mut self, tenant: TenantId, what: &str, now: Instant) -> Option<Place<'_>> {
        let Self { tenants, bytes } = self;
        let tenant = match tenants.entry(tenant) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if *bytes >= BYTES => return None,
            Entry::Vacant(new) => new.insert(Tenant::default()),
        };
        if !tenant.configs.contains_key(what) {
            if tenant.configs.len() >= CONFIGS_OF_TENANT || *bytes >= BYTES {
                return None;
            }
            *bytes += ENTRY_BYTES + what.len();
            let config = Config { all: Counted::nothing(now), by_labels: HashMap::new(), dropped: 0 };
            tenant.configs.insert(what.to_owned(), config);
        }
        let Tenant { configs, label_sets } = tenant;
        configs.get_mut(what).map(|config| Place { config, label_sets, bytes })
    }

    /// What a shard is told of this tenant: in parts, each of about `max` bytes at most. A config's label sets may be in several.
    pub fn told(&self, tenant: TenantId, now: Instant, max: usize) -> Vec<TenantUse> {
        let Some(known) = self.tenants.get(&tenant) else { return Vec::new() };
        let mut parts = vec![TenantUse { tenant_id: tenant.0, configs: Vec::new() }];
        let mut room = max;
        for (what, config) in &known.configs {
            let mut labels = config.by_labels.iter();
            let mut first = true;
            loop {
                let mut part = told_config(what, config, now, first);
                first = false;
                room = room.saturating_sub(ENTRY_BYTES + what.len());
                let mut ended = true;
                for (labels, counted) in labels.by_ref() {
                    room = room.saturating_sub(ENTRY_BYTES + text_bytes(labels));
                    part.labels.push(told_labels(labels, counted, now));
                    if room == 0 {
                        ended = false;
                        break;
                    }
                }
                if let Some(open) = parts.last_mut() {
                    open.configs.push(part);
                }
                if room == 0 {
                    parts.push(TenantUse { tenant_id: tenant.0, configs: Vec::new() });
                    room = max;
                }
                if ended {
                    break;
                }
            }
        }
        parts.retain(|part| !part.configs.is_empty());
        parts
    }

    /// The tenants of which something was counted.
    pub fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.keys().copied()
    }

    /// What was counted of these tenants only; the rest stays.
    pub fn split(&mut self, take: impl Fn(TenantId) -> bool) -> Sketch {
        let mut taken = Sketch::default();
        let gone: Vec<TenantId> = self.tenants.keys().copied().filter(|tenant| take(*tenant)).collect();
        for tenant in gone {
            if let Some(counted) = self.tenants.remove(&tenant) {
                let bytes = counted.bytes();
                self.bytes = self.bytes.saturating_sub(bytes);
                taken.bytes += bytes;
                taken.tenants.insert(tenant, counted);
            }
        }
        taken
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Tenant {
    fn bytes(&self) -> usize {
        let sets = |config: &Config| config.by_labels.keys().map(|l| ENTRY_BYTES + text_bytes(l)).sum::<usize>();
        self.configs.iter().map(|(what, config)| ENTRY_BYTES + what.len() + sets(config)).sum()
    }
}

/// A config in a sketch, with the counts that bound what it may add.
struct Place<'a> {
    config: &'a mut Config,
    label_sets: &'a mut usize,
    bytes: &'a mut usize,
}

impl Place<'_> {
    /// The label set's counts; none (and one more dropped) where there is no room for it.
    fn labels(&mut self, labels: &Labels, now: Instant) -> Option<&mut Counted> {
        if !self.config.by_labels.contains_key(labels) {
            let full = self.config.by_labels.len() >= LABEL_SETS_OF_CONFIG
                || *self.label_sets >= LABEL_SETS_OF_TENANT
                || *self.bytes >= BYTES;
            if full {
                self.config.dropped += 1;
                return None;
            }
            *self.label_sets += 1;
            *self.bytes += ENTRY_BYTES + text_bytes(labels);
            self.config.by_labels.insert(labels.clone(), Counted::nothing(now));
        }
        self.config.by_labels.get_mut(labels)
    }
}

/// The config's own counts go with its first part only, so that they are not added twice.
fn told_config(what: &str, config: &Config, now: Instant, first: bool) -> ConfigUse {
    let mut names = what.splitn(3, '/').map(str::to_owned);
    let mut name = || names.next().unwrap_or_default();
    ConfigUse {
        app: name(),
        env: name(),
        name: name(),
        labels: Vec::new(),
        dropped: if first { config.dropped } else { 0 },
        fetches: if first { config.all.fetches } else { 0 },
        age_ms: config.all.age_ms(now),
        clients: config.all.clients.to_wire().into(),
    }
}

fn told_labels(labels: &Labels, counted: &Counted, now: Instant) -> LabelsUse {
    LabelsUse {
        labels: labels.clone().into(),
        fetches: counted.fetches,
        age_ms: counted.age_ms(now),
        clients: counted.clients.to_wire().into(),
    }
}
