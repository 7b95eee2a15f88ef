//! The watch lane: one feed for each (gateway, shard group), fanned out to SSE, WebSocket and gRPC watchers.

mod cursor;
mod feed;
mod frame;
mod grpc;
mod history;
mod hub;
mod hubs;
mod revision;
mod ring;
mod seats;
mod selection;
mod sse;
mod start;
#[cfg(test)]
mod tests;
mod token;
mod trust;
mod watcher;
mod websocket;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use conflux_common::{
    ids::ClusterName,
    settings::{Problems, Validate},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{history::History, hubs::Hubs, ring::Bounds, seats::Seats, trust::Trust};
pub(crate) use self::{
    hub::{Listener, Presence},
    ring::Vouched,
};

use crate::{
    directory::Directory,
    identity::Identity,
    respond::Style,
    routes::{Routes, TenantRoute},
    session_adapter::{Answer, RequestBody},
    upstream::Upstream,
};

/// A watcher is behind for less than this, or its connection has been given up: nothing older is held for it.
const OLDEST: Duration = Duration::from_secs(60);

/// What the lane needs of the rest of the gateway. All of it is cheap to clone.
#[derive(Clone)]
pub struct Handles {
    /// The federation: part of resume tokens.
    pub cluster: ClusterName,
    /// Where tenants and members are; [`Routes::subscribe`] tells of changes (a tenant's epoch or group).
    pub routes: Routes,
    /// Connections to members: [`Upstream::channel`].
    pub upstream: Upstream,
    /// [`Directory::subscribe`] tells of changes, [`Directory::recheck`] whether an identity still holds.
    pub directory: Directory,
    /// Cancelled when the gateway shuts down: end every watch with a frame that says where to resume.
    pub draining: CancellationToken,
}

/// A watch that the door let in: authenticated, its tenant covered by the credential and found.
pub struct WatchRequest {
    /// Method, canonical path and query, headers without the internal ones (labels and `last-event-id` are there).
    /// REST: `/api/v1/watch` or `/api/v1/watch/{tenant}`; gRPC: `/conflux.v1.ConfigService/Watch`.
    pub parts: http::request::Parts,
    /// Empty for REST; the one `WatchRequest` message, framed, for gRPC.
    pub body: RequestBody,
    /// Who watches.
    pub identity: Identity,
    /// Where its tenant is at present.
    pub route: TenantRoute,
    /// Goes into answers and logs.
    pub request_id: String,
    /// How errors are to look.
    pub style: Style,
}

/// Bounds, and what browsers may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Watchers on this gateway. Default 50,000.
    pub max_watchers: usize,
    /// Watchers of one principal (an API key, a token's subject). Default 10,000.
    pub max_watchers_per_principal: usize,
    /// Origins (`https://console.example`) whose pages may open WebSockets, beside the gateway's own; `*`: all.
    pub allowed_origins: Vec<String>,
    /// Revisions of each watched tenant that are held for watchers that are behind. Default 8192.
    pub held_revisions: usize,
    /// Bytes of them. Default 4 MiB.
    pub held_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_watchers: 50_000,
            max_watchers_per_principal: 10_000,
            allowed_origins: Vec::new(),
            held_revisions: 8192,
            held_bytes: 4 << 20,
        }
    }
}

impl Validate for Settings {
    fn validate(&self, problems: &mut Problems) {
        let watchers = self.max_watchers_per_principal > 0 && self.max_watchers > 0;
        problems.require(watchers, "max_watchers", "a gateway without watchers cannot serve watches: 1 at least");
        let held = self.held_revisions >= 16 && self.held_bytes >= 64 << 10;
        problems.require(
            held,
            "held_revisions",
            "16 revisions and 64 KiB at least: watchers are always a little behind",
        );
        for origin in &self.allowed_origins {
            let whole = origin == "*" || origin.split_once("://").is_some_and(|(_, host)| !host.contains('/'));
            problems.require(whole, "allowed_origins", "scheme://host[:port] without a path, or *");
        }
    }
}

impl Settings {
    fn bounds(&self) -> Bounds {
        Bounds { revisions: self.held_revisions, bytes: self.held_bytes, age: OLDEST }
    }
}

/// The lane. One for each gateway.
pub struct Lane {
    handles: Handles,
    settings: Settings,
    hubs: Arc<Hubs>,
    trust: Arc<Trust>,
    history: History,
    seats: Arc<Seats>,
    tasks: OnceLock<JoinSet<()>>,
}

impl Lane {
    /// Nothing is dialled before the first watcher comes.
    pub fn new(handles: Handles) -> Arc<Self> {
        Self::with_settings(handles, Settings::default())
    }

    /// The same with other bounds.
    pub fn with_settings(handles: Handles, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            hubs: Hubs::new(handles.routes.clone(), handles.upstream.clone(), settings.bounds()),
            trust: Trust::new(handles.directory.clone()),
            history: History::new(handles.upstream.clone()),
            seats: Seats::new(settings.max_watchers, settings.max_watchers_per_principal),
            tasks: OnceLock::new(),
            handles,
            settings,
        })
    }

    /// Follows a tenant for as long as the answer is held, as a watch does: edge reads live on the same feed.
    pub(crate) fn follow(&self, route: TenantRoute) -> Presence {
        self.start();
        self.hubs.enter(route)
    }

    /// Starts what runs beside the watchers, once. Not before there is a runtime to run it.
    fn start(&self) {
        self.tasks.get_or_init(|| {
            let (hubs, trust) = (self.hubs.clone(), self.trust.clone());
            // From here on no change is missed, whenever the tasks get their first turn.
            let (routes, directory) = (self.handles.routes.subscribe(), self.handles.directory.subscribe());
            let mut tasks = JoinSet::new();
            tasks.spawn(async move { hubs.keep(routes).await });
            tasks.spawn(async move { trust.keep(directory).await });
            tasks
        });
    }
}

/// Answers a watch. The answer's body (or the upgraded connection) lives as long as the watch; dropping it ends it.
pub async fn serve(lane: &Arc<Lane>, request: WatchRequest) -> Answer {
    lane.start();
    if request.style == Style::Grpc {
        grpc::serve(lane, request).await
    } else if websocket::is_asked(&request.parts) {
        websocket::serve(lane, request).await
    } else {
        sse::serve(lane, request).await
    }
}
