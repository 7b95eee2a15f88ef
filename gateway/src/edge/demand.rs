//! Which configs are asked for more than once in a while: only those are worth a place and a call.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use conflux_common::ids::TenantId;
use quick_cache::DefaultHashBuilder;

/// Configs that are remembered, about: two that fall together forget each other.
const PLACES: usize = 1 << 14;
/// Asked for twice within so long.
const WHILE: Duration = Duration::from_secs(10);

/// See the module. Bounded, without a lock, and wrong now and then: it decides only what is worth while.
pub struct Demand {
    hasher: DefaultHashBuilder,
    born: Instant,
    places: Box<[AtomicU64]>,
}

impl Default for Demand {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: DefaultHashBuilder::default(), born: Instant::now(), places }
    }
}

impl Demand {
    /// Notes that it was asked for. Whether it was before, not long ago.
    pub fn is_hot(&self, tenant: TenantId, what: &str) -> bool {
        self.is_hot_at(tenant, what, self.born.elapsed())
    }

    fn is_hot_at(&self, tenant: TenantId, what: &str, now: Duration) -> bool {
        let hash = self.hasher.hash_one((tenant.0, what));
        // The moment in the lower half, what it is of in the upper one.
        let tag = hash & (u64::from(u32::MAX) << 32);
        let moment = now.as_millis() as u64 & u64::from(u32::MAX);
        let before = self.places[hash as usize % PLACES].swap(tag | moment, Ordering::Relaxed);
        let since = moment.wrapping_sub(before) & u64::from(u32::MAX);
        before != 0 && before & !u64::from(u32::MAX) == tag && since <= WHILE.as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crawl over all configs must not put each of them into the cache.
    #[test]
    fn what_is_asked_for_once_is_not_hot() {
        let demand = Demand::default();
        let at = Duration::from_secs;
        assert!(!demand.is_hot_at(TenantId(1), "shop/prod/a", at(1)));
        assert!(demand.is_hot_at(TenantId(1), "shop/prod/a", at(2)));
        assert!(!demand.is_hot_at(TenantId(2), "shop/prod/a", at(3)), "another tenant's");
        assert!(!demand.is_hot_at(TenantId(1), "shop/prod/a", at(20)), "long ago");
    }
}
