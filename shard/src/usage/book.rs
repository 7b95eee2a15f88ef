//! The bounded memory: what was seen least recently goes first, and is counted as dropped.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use conflux_common::{distinct::Distinct, ids::TenantId, labels::Labels};

use super::{ConfigSeen, LATELY, LabelsSeen};

/// What may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Label sets of a config.
    pub label_sets_of_config: usize,
    /// Label sets of a tenant.
    pub label_sets_of_tenant: usize,
    /// Configs of a tenant.
    pub configs_of_tenant: usize,
    /// Bytes of all tenants together, about.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { label_sets_of_config: 256, label_sets_of_tenant: 4_096, configs_of_tenant: 4_096, bytes: 128 << 20 }
    }
}

/// What an entry costs at most beside its texts: two sets of registers, counters, its places in tables and orders.
const ENTRY_BYTES: usize = 1_024;

/// The memory.
pub(super) struct Book {
    bounds: Bounds,
    tenants: HashMap<u64, Tenant>,
    /// All label sets and all configs, the least recently seen first.
    label_sets: BTreeSet<(Instant, u64, Arc<str>, Arc<Labels>)>,
    configs: BTreeSet<(Instant, u64, Arc<str>)>,
    bytes: usize,
}

struct Tenant {
    since: Instant,
    configs: HashMap<Arc<str>, Config>,
    label_sets: BTreeSet<(Instant, Arc<str>, Arc<Labels>)>,
    by_last: BTreeSet<(Instant, Arc<str>)>,
}

struct Config {
    all: Counted,
    by_labels: HashMap<Arc<Labels>, Counted>,
    by_last: BTreeSet<(Instant, Arc<Labels>)>,
    dropped: u64,
}

struct Counted {
    fetches: u64,
    last: Instant,
    /// The clients of this half of [`LATELY`] and of the one before: those who left are forgotten in time.
    halves: [Distinct; 2],
    turned: Instant,
}

impl Counted {
    fn nothing(last: Instant, now: Instant) -> Self {
        Self { fetches: 0, last, halves: Default::default(), turned: now }
    }

    fn add(&mut self, fetches: u64, last: Instant, clients: &Distinct, now: Instant) {
        let halves = now.saturating_duration_since(self.turned).as_millis() / (LATELY / 2).as_millis();
        if halves > 0 {
            let before = if halves == 1 { std::mem::take(&mut self.halves[0]) } else { Distinct::default() };
            self.halves = [Distinct::default(), before];
            self.turned = now;
        }
        self.fetches = self.fetches.saturating_add(fetches);
        self.last = self.last.max(last);
        self.halves[0].merge(clients);
    }

    fn clients(&self, now: Instant) -> Distinct {
        match now.saturating_duration_since(self.turned).as_millis() / (LATELY / 2).as_millis() {
            0 => {
                let mut both = self.halves[0].clone();
                both.merge(&self.halves[1]);
                both
            }
            1 => self.halves[0].clone(),
            _ => Distinct::default(),
        }
    }
}

impl Book {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, tenants: HashMap::new(), label_sets: BTreeSet::new(), configs: BTreeSet::new(), bytes: 0 }
    }

    /// Fetches a second of a tenant, on average since it is looked at.
    pub(super) fn fetches_per_second(&self, tenant: u64, now: Instant) -> f64 {
        let Some(known) = self.tenants.get(&tenant) else { return 0.0 };
        let fetches: u64 = known.configs.values().map(|config| config.all.fetches).sum();
        fetches as f64 / now.saturating_duration_since(known.since).as_secs_f64().max(1.0)
    }

    /// Adds to what is known of a config as a whole.
    #[allow(clippy::too_many_arguments)] // each is a field of the report
    pub(super) fn config_used(
        &mut self,
        tenant: u64,
        key: &str,
        fetches: u64,
        last: Instant,
        clients: &Distinct,
        dropped: u64,
        now: Instant,
    ) {
        let known = self.tenants.entry(tenant).or_insert_with(|| Tenant::new(now));
        let key = match known.configs.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => {
                self.bytes += ENTRY_BYTES + key.len();
                let key: Arc<str> = key.into();
                known.configs.insert(key.clone(), Config::new(last, now));
                key
            }
        };
        let Some(config) = known.configs.get_mut(&key) else { return };
        let before = config.all.last;
        config.all.add(fetches, last, clients, now);
        config.dropped = config.dropped.saturating_add(dropped);
        let after = config.all.last;
        known.by_last.remove(&(before, key.clone()));
        known.by_last.insert((after, key.clone()));
        self.configs.remove(&(before, tenant, key.clone()));
        self.configs.insert((after, tenant, key));
        self.make_room(tenant);
    }

    /// Adds to what is known of the clients of a config that carry these labels. The config must be known.
    #[allow(clippy::too_many_arguments)] // each is a field of the report
    pub(super) fn labels_used(
        &mut self,
        tenant: u64,
        key: &str,
        labels: Labels,
        fetches: u64,
        last: Instant,
        clients: &Distinct,
        now: Instant,
    ) {
        let Some(known) = self.tenants.get_mut(&tenant) else { return };
        let Some((key, _)) = known.configs.get_key_value(key) else { return };
        let key = key.clone();
        let Some(config) = known.configs.get_mut(&key) else { return };
        let labels = match config.by_labels.get_key_value(&labels) {
            Some((labels, _)) => labels.clone(),
            None => {
                self.bytes += ENTRY_BYTES + text_bytes(&labels);
                let labels = Arc::new(labels);
                config.by_labels.insert(labels.clone(), Counted::nothing(last, now));
                labels
            }
        };
        let Some(counted) = config.by_labels.get_mut(&labels) else { return };
        let before = counted.last;
        counted.add(fetches, last, clients, now);
        let after = counted.last;
        config.by_last.remove(&(before, labels.clone()));
        config.by_last.insert((after, labels.clone()));
        known.label_sets.remove(&(before, key.clone(), labels.clone()));
        known.label_sets.insert((after, key.clone(), labels.clone()));
        self.label_sets.remove(&(before, tenant, key.clone(), labels.clone()));
        self.label_sets.insert((after, tenant, key.clone(), labels));
        self.make_room_in_config(tenant, &key);
        self.make_room(tenant);
    }

    fn make_room_in_config(&mut self, tenant: u64, key: &Arc<str>) {
        let config = self.tenants.get(&tenant).and_then(|t| t.configs.get(key));
        let Some(config) = config.filter(|c| c.by_labels.len() > self.bounds.label_sets_of_config) else { return };
        if let Some((_, labels)) = config.by_last.first().cloned() {
            self.forget_labels(tenant, key, &labels, true);
        }
    }

    /// Gives up what was seen least recently, until the bounds hold again.
    fn make_room(&mut self, tenant: u64) {
        if let Some(known) = self.tenants.get(&tenant) {
            let full = known.label_sets.len() > self.bounds.label_sets_of_tenant;
            if let Some((_, key, labels)) = known.label_sets.first().filter(|_| full).cloned() {
                self.forget_labels(tenant, &key, &labels, true);
            }
        }
        if let Some(known) = self.tenants.get(&tenant) {
            let full = known.configs.len() > self.bounds.configs_of_tenant;
            if let Some((_, key)) = known.by_last.first().filter(|_| full).cloned() {
                self.forget_config(tenant, &key);
            }
        }
        while self.bytes > self.bounds.bytes {
            let (sets, configs) = (self.label_sets.first(), self.configs.first());
            match (sets, configs) {
                // A config is never older than its label sets: its last ones go before it.
                (Some((at, tenant, key, labels)), Some((config_at, ..))) if at <= config_at => {
                    let (tenant, key, labels) = (*tenant, key.clone(), labels.clone());
                    self.forget_labels(tenant, &key, &labels, true);
                }
                (_, Some((_, tenant, key))) => {
                    let (tenant, key) = (*tenant, key.clone());
                    self.forget_config(tenant, &key);
                }
                _ => return,
            }
        }
    }

    fn forget_labels(&mut self, tenant: u64, key: &Arc<str>, labels: &Arc<Labels>, dropped: bool) {
        let Some(known) = self.tenants.get_mut(&tenant) else { return };
        let Some(config) = known.configs.get_mut(key) else { return };
        let Some(counted) = config.by_labels.remove(labels) else { return };
        config.dropped += u64::from(dropped);
        config.by_last.remove(&(counted.last, labels.clone()));
        known.label_sets.remove(&(counted.last, key.clone(), labels.clone()));
        self.label_sets.remove(&(counted.last, tenant, key.clone(), labels.clone()));
        self.bytes -= ENTRY_BYTES + text_bytes(labels);
    }

    fn forget_config(&mut self, tenant: u64, key: &Arc<str>) {
        let labels: Vec<Arc<Labels>> = match self.tenants.get(&tenant).and_then(|t| t.configs.get(key)) {
            Some(config) => config.by_labels.keys().cloned().collect(),
            None => return,
        };
        for labels in labels {
            self.forget_labels(tenant, key, &labels, true);
        }
        let Some(known) = self.tenants.get_mut(&tenant) else { return };
        if let Some(config) = known.configs.remove(key) {
            known.by_last.remove(&(config.all.last, key.clone()));
            self.configs.remove(&(config.all.last, tenant, key.clone()));
            self.bytes -= ENTRY_BYTES + key.len();
            // What is not known is not said to be unused: from now on it counts as looked at.
            known.since = known.since.max(config.all.last);
        }
    }

    /// Forgets the tenants that are not here and the label sets that were not seen of late, and begins to look at those that are new.
    pub(super) fn keep(&mut self, here: &[TenantId], now: Instant) {
        let here: BTreeSet<u64> = here.iter().map(|tenant| tenant.0).collect();
        let gone: Vec<u64> = self.tenants.keys().copied().filter(|tenant| !here.contains(tenant)).collect();
        for tenant in gone {
            let keys: Vec<Arc<str>> =
                self.tenants.get(&tenant).map(|t| t.configs.keys().cloned().collect()).unwrap_or_default();
            for key in keys {
                self.forget_config(tenant, &key);
            }
            self.tenants.remove(&tenant);
        }
        for tenant in here {
            self.tenants.entry(tenant).or_insert_with(|| Tenant::new(now));
        }
        while let Some((last, tenant, key, labels)) = self.label_sets.first().cloned() {
            if now.saturating_duration_since(last) <= LATELY {
                break;
            }
            self.forget_labels(tenant, &key, &labels, false);
        }
    }

    /// What is known of a config by its key; what is known of its environment by `env` is added.
    pub(super) fn config(&self, tenant: TenantId, key: &str, env: &str, now: Instant) -> ConfigSeen {
        let known = self.tenants.get(&tenant.0);
        let mut seen = ConfigSeen {
            observed: known.map(|t| now.saturating_duration_since(t.since)).unwrap_or_default(),
            last: None,
            fetches: 0,
            clients: Distinct::default(),
            label_sets: Vec::new(),
            dropped: 0,
        };
        for config in known.into_iter().flat_map(|t| [t.configs.get(key), t.configs.get(env)]).flatten() {
            let ago = now.saturating_duration_since(config.all.last);
            seen.last = Some(seen.last.map_or(ago, |last| last.min(ago)));
            seen.fetches = seen.fetches.saturating_add(config.all.fetches);
            seen.clients.merge(&config.all.clients(now));
            seen.dropped = seen.dropped.saturating_add(config.dropped);
            for (labels, counted) in &config.by_labels {
                add_labels(&mut seen.label_sets, labels, counted, now);
            }
        }
        seen.label_sets.sort_by(|a, b| a.last.cmp(&b.last).then_with(|| a.labels.cmp(&b.labels)));
        seen
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// That the orders, the tables and the counts agree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let (mut sets, mut configs, mut bytes) = (0, 0, 0);
        for tenant in self.tenants.values() {
            let of_tenant: usize = tenant.configs.values().map(|c| c.by_labels.len()).sum();
            assert_eq!((tenant.label_sets.len(), tenant.by_last.len()), (of_tenant, tenant.configs.len()));
            for (key, config) in &tenant.configs {
                assert_eq!(config.by_last.len(), config.by_labels.len());
                bytes += ENTRY_BYTES + key.len();
                bytes += config.by_labels.keys().map(|l| ENTRY_BYTES + text_bytes(l)).sum::<usize>();
            }
            sets += of_tenant;
            configs += tenant.configs.len();
        }
        assert_eq!((self.label_sets.len(), self.configs.len(), self.bytes), (sets, configs, bytes));
    }
}

impl Tenant {
    fn new(since: Instant) -> Self {
        Self { since, configs: HashMap::new(), label_sets: BTreeSet::new(), by_last: BTreeSet::new() }
    }
}

impl Config {
    fn new(last: Instant, now: Instant) -> Self {
        let all = Counted::nothing(last, now);
        Self { all, by_labels: HashMap::new(), by_last: BTreeSet::new(), dropped: 0 }
    }
}

/// Each text has its own allocation, and stands in four tables by reference.
fn text_bytes(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len() + 96).sum()
}

/// Of one config and its environment the same label set may be known twice.
fn add_labels(seen: &mut Vec<LabelsSeen>, labels: &Labels, counted: &Counted, now: Instant) {
    let last = now.saturating_duration_since(counted.last);
    if last > LATELY {
        return;
    }
    match seen.iter_mut().find(|known| known.labels == *labels) {
        Some(known) => {
            known.fetches = known.fetches.saturating_add(counted.fetches);
            known.clients.merge(&counted.clients(now));
            known.last = known.last.min(last);
        }
        None => seen.push(LabelsSeen {
            labels: labels.clone(),
            fetches: counted.fetches,
            clients: counted.clients(now),
            last,
        }),
    }
}
