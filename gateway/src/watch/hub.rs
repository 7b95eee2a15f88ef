//! One followed tenant: its ring, where it is served, and the watchers to wake.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use conflux_common::ids::TenantId;
use conflux_proto::internal::{FeedPosition, FeedResponse, FeedRevision, feed_response::Body};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::ring::{Bounds, Ended, Ring, Taken};
use crate::routes::TenantRoute;

/// Told of every revision before the ring has it: whoever sees the new position then finds that this has taken effect.
pub trait Listener: Send + Sync {
    /// A revision of this tenant; it may come twice, or again after later ones.
    fn revision(&self, tenant: TenantId, revision: &FeedRevision);
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    /// Which tenant.
    pub tenant: TenantId,
    ring: RwLock<Ring>,
    bounds: Bounds,
    wake: watch::Sender<()>,
    route: Mutex<TenantRoute>,
    watchers: AtomicUsize,
    /// When the last watcher left; the feed goes on for a while, since most of them come back.
    empty_since: Mutex<Instant>,
    listener: RwLock<Option<Weak<dyn Listener>>>,
    /// How many want to know how old the position is.
    vouching: AtomicUsize,
}

/// What a frame of the feed asks of whoever keeps the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Go on.
    GoOn,
    /// Subscribe again after [`Hub::after`], at once.
    Again,
    /// The member does not (or no longer) serve the tenant under this epoch: look where it is, then subscribe again.
    Elsewhere,
    /// It is over.
    Over,
}

impl Hub {
    /// Of a tenant that is served there. Knows nothing before the feed has spoken.
    pub fn new(route: TenantRoute, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            tenant: route.id,
            ring: RwLock::default(),
            bounds,
            wake: watch::Sender::default(),
            route: Mutex::new(route),
            watchers: AtomicUsize::new(0),
            empty_since: Mutex::new(Instant::now()),
            listener: RwLock::default(),
            vouching: AtomicUsize::new(0),
        })
    }

    /// Tells this listener from now on, and has the feed ask how old the position is, until [`Hub::ask_no_more`].
    pub fn ask(&self, listener: Weak<dyn Listener>) {
        *self.listener.write() = Some(listener);
        self.vouching.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes one [`Hub::ask`] back.
    pub fn ask_no_more(&self) {
        self.vouching.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether somebody wants to know how old the position is.
    pub fn is_asked(&self) -> bool {
        self.vouching.load(Ordering::Acquire) > 0
    }

    /// A member vouches for what it had sent: everything acknowledged before `at` was in it.
    pub fn vouch(&self, said: &FeedPosition, at: Instant) {
        if said.epoch == self.route.lock().epoch.0 {
            let first = self.ring.write().vouch(said, at);
            if first {
                self.wake.send_replace(());
            }
        }
    }

    /// Wakes on everything that a watcher could want to look at.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    /// Looks at the ring. Keep it short.
    pub fn with_ring<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        look(&self.ring.read())
    }

    /// Where the tenant is served, as far as is known.
    pub fn route(&self) -> TenantRoute {
        self.route.lock().clone()
    }

    /// Takes a route, if it is newer. Returns the old one then.
    pub fn reroute(&self, newer: TenantRoute) -> Option<TenantRoute> {
        let mut route = self.route.lock();
        (newer.epoch > route.epoch).then(|| std::mem::replace(&mut *route, newer))
    }

    /// After which revision the feed is to go on. None: from the present.
    pub fn after(&self) -> Option<u64> {
        self.ring.read().position().map(|p| p.revision.0)
    }

    /// Takes a frame of the feed.
    pub fn take(&self, frame: FeedResponse) -> Then {
        let now = Instant::now();
        let taken = match frame.body {
            Some(Body::Revision(revision)) => {
                self.listen(&revision);
                self.ring.write().revision(revision, &self.bounds, now)
            }
            Some(Body::Mark(mark)) => self.ring.write().mark(&mark, now),
            Some(Body::End(end)) => return self.ended(&end.reason),
            // The line takes it: it is of many tenants.
            Some(Body::Answer(_)) => Taken::Nothing,
            None => Taken::Nothing, // of a newer shard
        };
        match taken {
            Taken::New => {
                self.wake.send_replace(());
                Then::GoOn
            }
            Taken::Nothing => Then::GoOn,
            Taken::Hole => {
                tracing::warn!(tenant = %self.tenant, after = self.after(), "the feed left a hole: it is asked again");
                Then::Again
            }
        }
    }

    fn listen(&self, revision: &FeedRevision) {
        if self.is_asked()
            && let Some(listener) = self.listener.read().as_ref().and_then(Weak::upgrade)
        {
            listener.revision(self.tenant, revision);
        }
    }

    fn ended(&self, reason: &str) -> Then {
        match reason {
            "compacted" => {
                self.ring.write().lose();
                self.wake.send_replace(());
                Then::Again
            }
            "deleted" => {
                self.end();
                Then::Over
            }
            // "wrong_epoch", "not_here", and what a newer shard may come to say.
            _ => Then::Elsewhere,
        }
    }

    /// The tenant is deleted.
    fn end(&self) {
        self.ring.write().end(Ended::Deleted);
        self.wake.send_replace(());
    }

    /// Lets go of what is too old for any watcher.
    pub fn trim(&self) {
        self.ring.write().trim(&self.bounds, Instant::now());
    }

    /// A watcher comes.
    pub fn enter(self: &Arc<Self>) -> Presence {
        self.watchers.fetch_add(1, Ordering::AcqRel);
        Presence(self.clone())
    }

    /// For how long nobody has watched. None while somebody does.
    pub fn idle(&self) -> Option<std::time::Duration> {
        let empty = self.watchers.load(Ordering::Acquire) == 0;
        empty.then(|| self.empty_since.lock().elapsed())
    }
}

/// A watcher's place in a hub: while one is held the tenant is followed.
#[derive(Debug)]
pub struct Presence(Arc<Hub>);

impl std::ops::Deref for Presence {
    type Target = Hub;
    fn deref(&self) -> &Hub {
        &self.0
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        *self.0.empty_since.lock() = Instant::now();
        self.0.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}
