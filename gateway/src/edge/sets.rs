//! All sets, within bounded bytes: the least used go. A change of a config takes its set out before anyone sees its revision.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use conflux_common::{ids::TenantId, planted};
use conflux_proto::internal::FeedRevision;
use parking_lot::Mutex;
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter, sync::Cache, sync::DefaultLifecycle};

use super::set::Set;
use crate::watch::Listener;

/// Sets are filled at a time, or wait for it; demand for others is not heard meanwhile.
const PENDING: usize = 1024;
/// A set is thought to be of about so many bytes, when the tables are laid out.
const TYPICAL: u64 = 4096;

/// Whose set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    tenant: TenantId,
    /// `app/env/name`.
    what: Box<str>,
}

/// A [`Key`] that need not be made.
struct Borrowed<'a>(TenantId, &'a str);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrowed(self.tenant, &self.what).hash(state);
    }
}

impl Hash for Borrowed<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<Key> for Borrowed<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.tenant && *self.1 == *key.what
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<Set>> for Bytes {
    fn weight(&self, _: &Key, set: &Arc<Set>) -> u64 {
        set.size() as u64
    }
}

/// See the module.
pub struct Sets {
    cache: Cache<Key, Arc<Set>, Bytes>,
    /// Those that are being filled, and the last change of each that was told meanwhile.
    pending: Mutex<HashMap<Key, u64>>,
}

impl Sets {
    /// Of at most so many bytes together.
    pub fn new(bytes: u64) -> Self {
        let typical = usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX).max(16);
        // Few parts, since a set must fit into one.
        let options = OptionsBuilder::new().weight_capacity(bytes).estimated_items_capacity(typical).shards(4).build();
        let cache = match options {
            Ok(options) => {
                Cache::with_options(options, Bytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
            }
            // It was told both capacities.
            Err(_) => Cache::with_weighter(typical, bytes, Bytes),
        };
        Self { cache, pending: Mutex::default() }
    }

    /// The set of this config.
    pub fn get(&self, tenant: TenantId, what: &str) -> Option<Arc<Set>> {
        self.cache.get(&Borrowed(tenant, what))
    }

    /// Begins to fill a set. From now on its config's changes are noted. None: someone fills it already, or too many are filled.
    pub fn begin(self: &Arc<Self>, tenant: TenantId, what: Box<str>) -> Option<Pending> {
        let key = Key { tenant, what };
        let mut pending = self.pending.lock();
        if pending.len() >= PENDING || pending.contains_key(&key) {
            return None;
        }
        pending.insert(key.clone(), 0);
        Some(Pending { sets: self.clone(), key })
    }

    /// Keeps only what this says.
    pub fn retain(&self, keep: impl Fn(TenantId, &Set) -> bool) {
        self.cache.retain(|key, set| keep(key.tenant, set));
    }

    /// Bytes of all sets.
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    fn changed(&self, tenant: TenantId, what: &str, revision: u64) {
        let key = Key { tenant, what: what.into() };
        // One lock with `Pending::finish`: whichever comes second sees what the other did.
        let mut pending = self.pending.lock();
        if let Some(last) = pending.get_mut(&key) {
            *last = revision.max(*last);
        }
        self.cache.remove_if(&key, |set| set.mark.revision.0 < revision);
    }
}

impl Listener for Sets {
    fn revision(&self, tenant: TenantId, revision: &FeedRevision) {
        for event in revision.events.iter().filter_map(|event| event.event.as_ref()) {
            // An application or environment as such: nobody is served anything else.
            if !event.name.is_empty() && !planted::has("kept_set") {
                let what = format!("{}/{}/{}", event.app, event.env, event.name);
                self.changed(tenant, &what, revision.revision);
            }
        }
    }
}

/// The right to fill one set. Dropping it gives it up.
pub struct Pending {
    sets: Arc<Sets>,
    key: Key,
}

impl Pending {
    /// `app/env/name`.
    pub fn what(&self) -> &str {
        &self.key.what
    }

    /// Puts the set in place, unless its config was changed after what it reflects. Says whether it was.
    pub fn finish(self, set: Set) -> bool {
        let pending = self.sets.pending.lock();
        let current = pending.get(&self.key).is_some_and(|changed| *changed <= set.mark.revision.0);
        if current {
            self.sets.cache.insert(self.key.clone(), Arc::new(set));
        }
        // Dropping `self` takes the lock.
        drop(pending);
        current
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.sets.pending.lock().remove(&self.key);
    }
}
