//! A watcher of one tenant: it follows a shard's feed, changes members now and then, and resumes after what it has.

use std::{rc::Rc, time::Duration};

use conflux_proto::internal::{
    FeedEnd, FeedRequest, FeedResponse, FeedSubscribe, feed_request::Request as Ask, feed_response::Body,
    shard_service_client::ShardServiceClient,
};
use futures::{StreamExt, stream};
use rand::{Rng, rngs::SmallRng};
use tokio::time::timeout;

use super::{
    Gateway, Phase,
    routes::{Route, pause},
};
use crate::{history::Told, world::trace};

/// A feed that says nothing for so long is given up: marks come more often.
const SILENCE: Duration = Duration::from_secs(4);

/// One watcher.
pub struct Watcher {
    gateway: Rc<Gateway>,
    tenant: usize,
    name: String,
    /// The last revision that it was told; none: it has not joined yet.
    last: Option<u64>,
    random: SmallRng,
}

impl Watcher {
    /// Of this tenant.
    pub fn new(gateway: Rc<Gateway>, tenant: usize, random: SmallRng) -> Self {
        let name = format!("{}-watcher", gateway.name);
        Self { gateway, tenant, name, last: None, random }
    }

    /// Watches for ever.
    pub async fn run(mut self) {
        while self.gateway.shared.phase.get() == Phase::Boot {
            pause(200).await;
        }
        let id = self.gateway.shared.tenants.borrow()[self.tenant].id;
        loop {
            let route = match self.gateway.routes.known(id) {
                Some(route) => Some(route),
                None => self.gateway.routes.look_up(&self.gateway.tls, id).await,
            };
            if let Some(route) = route {
                let member = self.gateway.routes.any(&route.shard);
                let why = self.follow(id, &route, &member).await;
                trace::note(format_args!("watch t{} from {member} ends: {why}", self.tenant));
            }
            pause(100).await;
            self.gateway.routes.look_up(&self.gateway.tls, id).await;
        }
    }

    /// Follows one feed until it ends; gives why.
    async fn follow(&mut self, id: u64, route: &Route, member: &str) -> String {
        let channel = match self.gateway.routes.channel(&self.gateway.tls, member) {
            Ok(channel) => channel,
            Err(error) => return error.to_string(),
        };
        let subscribe = FeedSubscribe { tenant_id: id, epoch: route.epoch, after: self.last };
        let ask = FeedRequest { request: Some(Ask::Subscribe(subscribe)) };
        // It stays open for as long as it is held.
        let asking = stream::once(async { ask }).chain(stream::pending());
        let opened = timeout(SILENCE, async { ShardServiceClient::new(channel).feed(asking).await }).await;
        let mut feed = match opened {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                self.gateway.routes.forget(member);
                return format!("{:?} {}", status.code(), status.message());
            }
            Err(_) => {
                self.gateway.routes.forget(member);
                return "it does not open".into();
            }
        };
        let mut stays = self.random.random_range(5..60);
        let mut joined = false;
        loop {
            let next = match timeout(SILENCE, feed.next()).await {
                Ok(Some(Ok(next))) => next,
                Ok(Some(Err(status))) => return format!("{:?} {}", status.code(), status.message()),
                Ok(None) => return "it ended".into(),
                Err(_) => {
                    self.gateway.routes.forget(member);
                    return "silence".into();
                }
            };
            if let Some(end) = self.take(next, &mut joined) {
                return format!("{} (floor {})", end.reason, end.floor);
            }
            stays -= 1;
            if stays == 0 {
                return "goes elsewhere".into();
            }
        }
    }

    fn take(&mut self, next: FeedResponse, joined: &mut bool) -> Option<FeedEnd> {
        let history = &self.gateway.shared.history;
        match next.body {
            Some(Body::Revision(revision)) => {
                let events =
                    revision.events.iter().filter_map(|e| e.event.as_ref()).map(|e| (e.name.clone(), e.version));
                history.told(&self.name, self.tenant, Told::Revision(revision.revision, events.collect()));
                *joined = true;
                self.last = Some(revision.revision);
                trace::note(format_args!("watch t{} told {}", self.tenant, revision.revision));
            }
            Some(Body::Mark(mark)) if !mark.frozen => {
                if self.last.is_none() {
                    history.told(&self.name, self.tenant, Told::Joined(mark.revision));
                    self.last = Some(mark.revision);
                } else {
                    history.told(&self.name, self.tenant, Told::Mark(mark.revision));
                }
                *joined = true;
            }
            Some(Body::End(end)) => return Some(end),
            _ => {}
        }
        None
    }
}
