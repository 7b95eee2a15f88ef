//! All followed tenants: a hub for each, pinned to the feed of the group that serves it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use conflux_common::ids::{GroupName, TenantId};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use super::{
    feed::{Feed, Wanted},
    hub::{Hub, Presence},
    ring::Bounds,
};
use crate::{
    routes::{Routes, TenantRoute},
    upstream::Upstream,
};

/// A tenant is followed for so long after its last watcher left: most of them only reconnect.
const LINGER: Duration = Duration::from_secs(15);
/// How often those that nobody watches are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// See the module.
pub struct Hubs {
    routes: Routes,
    upstream: Upstream,
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hubs: HashMap<TenantId, Arc<Hub>>,
    feeds: HashMap<GroupName, Arc<Wanted>>,
    /// Ends the feeds' tasks when the lane is dropped.
    tasks: JoinSet<()>,
}

impl Hubs {
    /// Follows nothing.
    pub fn new(routes: Routes, upstream: Upstream, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { routes, upstream, bounds, state: Mutex::default() })
    }

    /// Follows the tenant for as long as the answer is held.
    pub fn enter(&self, route: TenantRoute) -> Presence {
        let mut state = self.state.lock();
        let hub = state.hubs.entry(route.id).or_insert_with(|| Hub::new(route.clone(), self.bounds)).clone();
        let presence = hub.enter();
        match hub.reroute(route) {
            Some(old) => self.repin(&mut state, &hub, &old),
            None => self.pin(&mut state, &hub),
        }
        presence
    }

    /// Keeps every hub with the group that serves its tenant, and lets go of those that nobody watches.
    /// `changes`: of the routes.
    pub async fn keep(&self, mut changes: watch::Receiver<u64>) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => self.follow_routes(),
                    Err(_) => return,
                },
                _ = sweep.tick() => self.sweep(LINGER),
            }
        }
    }

    fn follow_routes(&self) {
        let mut state = self.state.lock();
        let hubs: Vec<Arc<Hub>> = state.hubs.values().cloned().collect();
        for hub in hubs {
            // Not known any more: perhaps only to a placement replica that is behind. That it is deleted says its shard.
            let Some(route) = self.routes.tenant_by_id(hub.tenant) else { continue };
            let epoch = route.epoch;
            if let Some(old) = hub.reroute(route) {
                tracing::info!(tenant = %hub.tenant, %epoch, from = %old.group, "watched tenant has a new route");
                self.repin(&mut state, &hub, &old);
            }
        }
    }

    fn sweep(&self, linger: Duration) {
        let started = Instant::now();
        let mut state = self.state.lock();
        let hubs: Vec<Arc<Hub>> = state.hubs.values().cloned().collect();
        for hub in &hubs {
            // Nobody can enter meanwhile: that takes the same lock.
            if hub.idle().is_some_and(|idle| idle >= linger) {
                state.forget(hub);
            }
        }
        metrics::gauge!("conflux_gateway_watched_tenants").set(state.hubs.len() as f64);
        drop(state);
        hubs.iter().for_each(|hub| hub.trim());
        tracing::trace!(hubs = hubs.len(), took = ?started.elapsed(), "swept");
    }

    fn pin(&self, state: &mut State, hub: &Arc<Hub>) {
        let group = hub.route().group;
        if !state.feeds.contains_key(&group) {
            let wanted = Arc::<Wanted>::default();
            let (upstream, routes) = (self.upstream.clone(), self.routes.clone());
            let feed = Feed { group: group.clone(), wanted: wanted.clone(), upstream, routes };
            state.tasks.spawn(feed.run());
            state.feeds.insert(group.clone(), wanted);
        }
        if let Some(wanted) = state.feeds.get(&group) {
            wanted.add(hub);
        }
    }

    fn repin(&self, state: &mut State, hub: &Arc<Hub>, old: &TenantRoute) {
        let group = hub.route().group;
        if old.group != group {
            state.leave(&old.group, hub.tenant);
        }
        self.pin(state, hub);
        if let Some(wanted) = state.feeds.get(&group) {
            wanted.look_again();
        }
    }
}

impl State {
    fn leave(&mut self, group: &GroupName, tenant: TenantId) {
        if let Some(wanted) = self.feeds.get(group) {
            wanted.remove(tenant);
        }
    }

    fn forget(&mut self, hub: &Hub) {
        self.hubs.remove(&hub.tenant);
        self.leave(&hub.route().group, hub.tenant);
    }
}
