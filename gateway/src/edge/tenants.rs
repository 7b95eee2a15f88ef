//! The tenants of which sets are held: each is followed on its group's feed for as long as it is asked for.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use conflux_common::ids::TenantId;
use parking_lot::RwLock;

use super::sets::Sets;
use crate::{
    routes::TenantRoute,
    watch::{self, Listener, Presence, Vouched},
};

/// A tenant that nobody has fetched from for so long is let go.
const UNUSED: Duration = Duration::from_secs(30);
/// After a fill that came to nothing the tenant's others wait so long.
const REST: Duration = Duration::from_millis(500);

/// See the module.
pub struct Tenants {
    most: usize,
    watches: Arc<watch::Lane>,
    sets: Arc<Sets>,
    born: Instant,
    followed: RwLock<HashMap<TenantId, Arc<Followed>>>,
}

/// A tenant that is followed. Sets belong to it: one that is followed anew begins without any.
pub struct Followed {
    place: Presence,
    born: Instant,
    /// Milliseconds after `born`.
    used: AtomicU64,
    rests_until: AtomicU64,
}

impl Tenants {
    /// At most so many at a time.
    pub fn new(most: usize, watches: Arc<watch::Lane>, sets: Arc<Sets>) -> Self {
        Self { most, watches, sets, born: Instant::now(), followed: RwLock::default() }
    }

    /// The tenant, if it is followed.
    pub fn get(&self, tenant: TenantId) -> Option<Arc<Followed>> {
        self.followed.read().get(&tenant).cloned()
    }

    /// Follows it. None: there are too many.
    pub fn follow(&self, route: TenantRoute) -> Option<Arc<Followed>> {
        if let Some(known) = self.get(route.id) {
            return Some(known);
        }
        // Looked at first without keeping others out: where there are too many, every hot fetch comes here.
        if self.len() >= self.most {
            return None;
        }
        let mut followed = self.followed.write();
        if let Some(known) = followed.get(&route.id) {
            return Some(known.clone());
        }
        if followed.len() >= self.most {
            return None;
        }
        let tenant = route.id;
        let new = Arc::new(Followed::new(self.watches.follow(route), &self.sets, self.born));
        followed.insert(tenant, new.clone());
        Some(new)
    }

    /// Lets go of those that nobody asked for lately.
    pub fn release_unused(&self) {
        let latest = millis(self.born.elapsed().saturating_sub(UNUSED));
        self.followed.write().retain(|_, followed| followed.used.load(Ordering::Relaxed) >= latest);
    }

    #[cfg(test)]
    pub(super) fn forget_all(&self) {
        self.followed.write().clear();
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.followed.read().len()
    }
}

impl Followed {
    fn new(place: Presence, sets: &Arc<Sets>, born: Instant) -> Self {
        let listener: Arc<dyn Listener> = sets.clone();
        place.ask(Arc::downgrade(&listener));
        let now = AtomicU64::new(millis(born.elapsed()));
        Self { place, born, used: now, rests_until: AtomicU64::new(0) }
    }

    /// Up to where its changes are known, and since when that is certain. Asking keeps it followed.
    pub fn vouched(&self) -> Option<Vouched> {
        self.used.store(millis(self.born.elapsed()), Ordering::Relaxed);
        self.peek()
    }

    /// The same, without keeping it.
    pub fn peek(&self) -> Option<Vouched> {
        self.place.with_ring(|ring| ring.vouched())
    }

    /// The feed's position.
    pub fn place(&self) -> &Presence {
        &self.place
    }

    /// A fill came to nothing.
    pub fn rest(&self) {
        self.rests_until.store(millis(self.born.elapsed() + REST), Ordering::Relaxed);
    }

    /// Whether one came to nothing a moment ago.
    pub fn rests(&self) -> bool {
        millis(self.born.elapsed()) < self.rests_until.load(Ordering::Relaxed)
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.place.ask_no_more();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
