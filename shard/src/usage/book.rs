//! The bounded memory: what was seen least recently goes first, and is counted as dropped.

use std::{
    collections::{HashMap, HashSet},
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

/// What an entry costs at most beside its texts: two sets of registers, counters, its place in a table.
const ENTRY_BYTES: usize = 1_024;

/// Where there is no room, this part of what is there goes at once: what it takes to find it is then seldom spent.
const AT_ONCE: usize = 16;

/// The memory.
pub(super) struct Book {
    bounds: Bounds,
    tenants: HashMap<u64, Tenant>,
    bytes: usize,
}

struct Tenant {
    since: Instant,
    configs: HashMap<Box<str>, Config>,
    /// Of all configs.
    label_sets: usize,
}

struct Config {
    all: Counted,
    /// By label set; nearly always a single one.
    by_labels: Vec<(Labels, Counted)>,
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

/// Those of some entries that were seen least recently.
struct Oldest {
    last: Instant,
    /// How many of those seen at `last` are among them.
    of_last: usize,
}

impl Oldest {
    /// The `n` of these entries; none: there are no entries.
    fn of(entries: impl Iterator<Item = Instant>, n: usize) -> Option<Self> {
        let mut entries: Vec<Instant> = entries.collect();
        let n = n.min(entries.len());
        let (before, last, _) = entries.select_nth_unstable(n.checked_sub(1)?);
        let of_last = n - before.iter().filter(|seen| *seen < last).count();
        Some(Self { last: *last, of_last })
    }

    /// Whether an entry is one of them, asked once for each entry.
    fn take(&mut self, seen: Instant) -> bool {
        let is_last = seen == self.last && self.of_last > 0;
        self.of_last -= usize::from(is_last);
        is_last || seen < self.last
    }
}

/// How many entries go where `most` have no room.
fn at_once(most: usize) -> usize {
    (most / AT_ONCE).max(1)
}

impl Book {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, tenants: HashMap::new(), bytes: 0 }
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
        if !known.configs.contains_key(key) {
            self.bytes += ENTRY_BYTES + key.len();
            known.configs.insert(key.into(), Config::new(last, now));
        }
        let Some(config) = known.configs.get_mut(key) else { return };
        config.all.add(fetches, last, clients, now);
        config.dropped = config.dropped.saturating_add(dropped);
        if known.configs.len() > self.bounds.configs_of_tenant {
            let lasts = known.configs.values().map(|config| config.all.last);
            if let Some(mut oldest) = Oldest::of(lasts, at_once(self.bounds.configs_of_tenant)) {
                self.bytes -= known.forget_configs(|last| oldest.take(last));
            }
        }
        self.make_room();
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
        let Some(config) = known.configs.get_mut(key) else { return };
        let at = match config.by_labels.binary_search_by(|(own, _)| own.cmp(&labels)) {
            Ok(at) => at,
            Err(at) => {
                self.bytes += ENTRY_BYTES + text_bytes(&labels);
                known.label_sets += 1;
                if config.by_labels.is_empty() {
                    config.by_labels.reserve_exact(1);
                }
                config.by_labels.insert(at, (labels, Counted::nothing(last, now)));
                at
            }
        };
        config.by_labels[at].1.add(fetches, last, clients, now);
        if config.by_labels.len() > self.bounds.label_sets_of_config
            && let Some(mut oldest) = Oldest::of(config.lasts(), at_once(self.bounds.label_sets_of_config))
        {
            let (sets, bytes) = config.forget_labels(|last| oldest.take(last));
            config.dropped += sets as u64;
            known.label_sets -= sets;
            self.bytes -= bytes;
        }
        if known.label_sets > self.bounds.label_sets_of_tenant {
            let lasts = known.configs.values().flat_map(Config::lasts);
            if let Some(mut oldest) = Oldest::of(lasts, at_once(self.bounds.label_sets_of_tenant)) {
                self.bytes -= known.forget_labels(|last| oldest.take(last), true);
            }
        }
        self.make_room();
    }

    /// Gives up what was seen least recently of all tenants, until there is room for the rest.
    fn make_room(&mut self) {
        while self.bytes > self.bounds.bytes {
            let configs = || self.tenants.values().flat_map(|tenant| tenant.configs.values());
            let lasts = configs().flat_map(|config| config.lasts().chain([config.all.last]));
            let entries = configs().map(|config| 1 + config.by_labels.len()).sum();
            let Some(mut oldest) = Oldest::of(lasts, at_once(entries)) else { return };
            for tenant in self.tenants.values_mut() {
                self.bytes -= tenant.forget_labels(|last| oldest.take(last), true);
            }
            for tenant in self.tenants.values_mut() {
                self.bytes -= tenant.forget_configs(|last| oldest.take(last));
            }
        }
    }

    /// Forgets the tenants that are not here and the label sets that were not seen of late, and begins to look at those that are new.
    pub(super) fn keep(&mut self, here: &[TenantId], now: Instant) {
        let here: HashSet<u64> = here.iter().map(|tenant| tenant.0).collect();
        let gone = self.tenants.extract_if(|tenant, _| !here.contains(tenant));
        self.bytes -= gone.map(|(_, mut tenant)| tenant.forget_configs(|_| true)).sum::<usize>();
        for tenant in here {
            let known = self.tenants.entry(tenant).or_insert_with(|| Tenant::new(now));
            self.bytes -= known.forget_labels(|last| now.saturating_duration_since(last) > LATELY, false);
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

    /// That the tables and the counts agree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut bytes = 0;
        for tenant in self.tenants.values() {
            assert_eq!(tenant.label_sets, tenant.configs.values().map(|config| config.by_labels.len()).sum::<usize>());
            for (key, config) in &tenant.configs {
                assert!(config.by_labels.is_sorted_by(|(a, _), (b, _)| a < b));
                bytes += ENTRY_BYTES + key.len() + config.label_bytes();
            }
        }
        assert_eq!(self.bytes, bytes);
    }
}

impl Tenant {
    fn new(since: Instant) -> Self {
        Self { since, configs: HashMap::new(), label_sets: 0 }
    }

    /// Forgets label sets by when they were last seen; `dropped`: for want of room, which is counted. How many bytes that frees.
    fn forget_labels(&mut self, mut goes: impl FnMut(Instant) -> bool, dropped: bool) -> usize {
        let mut freed = 0;
        for config in self.configs.values_mut() {
            let (sets, bytes) = config.forget_labels(&mut goes);
            config.dropped += if dropped { sets as u64 } else { 0 };
            self.label_sets -= sets;
            freed += bytes;
        }
        freed
    }

    /// Forgets configs by when they were last seen, with their label sets. How many bytes that frees.
    fn forget_configs(&mut self, mut goes: impl FnMut(Instant) -> bool) -> usize {
        let mut freed = 0;
        for (key, config) in self.configs.extract_if(|_, config| goes(config.all.last)) {
            // What is not known is not said to be unused: from now on it counts as looked at.
            self.since = self.since.max(config.all.last);
            self.label_sets -= config.by_labels.len();
            freed += ENTRY_BYTES + key.len() + config.label_bytes();
        }
        freed
    }
}

impl Config {
    fn new(last: Instant, now: Instant) -> Self {
        Self { all: Counted::nothing(last, now), by_labels: Vec::new(), dropped: 0 }
    }

    /// When each label set was last seen.
    fn lasts(&self) -> impl Iterator<Item = Instant> {
        self.by_labels.iter().map(|(_, counted)| counted.last)
    }

    fn label_bytes(&self) -> usize {
        self.by_labels.iter().map(|(labels, _)| ENTRY_BYTES + text_bytes(labels)).sum()
    }

    /// How many label sets and bytes went.
    fn forget_labels(&mut self, mut goes: impl FnMut(Instant) -> bool) -> (usize, usize) {
        let (mut sets, mut bytes) = (0, 0);
        self.by_labels.retain(|(labels, counted)| {
            let stays = !goes(counted.last);
            if !stays {
                sets += 1;
                bytes += ENTRY_BYTES + text_bytes(labels);
            }
            stays
        });
        (sets, bytes)
    }
}

/// Each text has its own allocation.
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
