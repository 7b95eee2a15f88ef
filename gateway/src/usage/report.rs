//! Tells every member of each group what its tenants' clients fetched, so that a new leader knows what the old one knew.

use std::{
    collections::HashMap,
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use conflux_common::ids::{GroupName, MemberName, TenantId};
use conflux_proto::internal::{ReportUseRequest, TenantUse, shard_service_client::ShardServiceClient};
use futures::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Sketch, Usage};
use crate::{
    routes::Routes,
    upstream::{PLACEMENT, Upstream},
};

/// One call to a member has so long.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of one call, about.
const PART: usize = 1 << 20;

type Member = (GroupName, MemberName);

/// Sends what was counted, now and then.
pub struct Reporter {
    usage: Arc<Usage>,
    routes: Routes,
    upstream: Upstream,
    every: Duration,
    /// What a member could not be told yet. Bounded like any sketch: what has no room is dropped, and counted as such.
    untold: HashMap<Member, Arc<Sketch>>,
}

impl Reporter {
    /// Tells nothing before the first `every` is over.
    pub fn new(usage: Arc<Usage>, routes: Routes, upstream: Upstream, every: Duration) -> Self {
        Self { usage, routes, upstream, every, untold: HashMap::new() }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.report().await;
        }
    }

    /// One round.
    pub(super) async fn report(&mut self) {
        let told = FuturesUnordered::new();
        for (member, untold) in self.share_out() {
            let (upstream, routes) = (&self.upstream, &self.routes);
            told.push(async move {
                let outcome = tell(upstream, &member, requests(routes, &member.0, &untold)).await;
                (member, untold, outcome)
            });
        }
        let told: Vec<_> = told.collect().await;
        for (member, untold, outcome) in told {
            if let Err(why) = outcome {
                tracing::debug!(group = %member.0, member = %member.1, why, "a member was not told what was fetched");
                self.untold.insert(member, untold);
            }
        }
    }

    /// What each member of the tenants' groups is to be told now: what was counted since the last time, which the members of a
    /// group share, and what it could not be told before.
    fn share_out(&mut self) -> Vec<(Member, Arc<Sketch>)> {
        let mut counted = self.usage.take();
        // What is left of it belongs to no member any more.
        let mut untold = std::mem::take(&mut self.untold);
        let mut shares = Vec::new();
        for group in self.routes.groups().into_iter().filter(|group| group.name.as_str() != PLACEMENT) {
            // A tenant that no group serves any more goes with the rest of `counted`.
            let part = counted.split(|tenant| self.routes.tenant_by_id(tenant).is_some_and(|r| r.group == group.name));
            let part = Arc::new(part);
            for member in &group.members {
                let member = (group.name.clone(), member.name.clone());
                let share = match untold.remove(&member) {
                    Some(untold) => {
                        let mut both = Arc::unwrap_or_clone(untold);
                        both.merge(Sketch::clone(&part));
                        Arc::new(both)
                    }
                    None => part.clone(),
                };
                if !share.is_empty() {
                    shares.push((member, share));
                }
            }
        }
        shares
    }
}

/// Of the tenants that this group serves now: one that has moved meanwhile is no concern of it. Made one by one, as they are sent.
fn requests(routes: &Routes, group: &GroupName, untold: &Sketch) -> impl Iterator<Item = ReportUseRequest> {
    let now = Instant::now();
    let here = move |tenant: &TenantId| routes.tenant_by_id(*tenant).is_some_and(|route| route.group == *group);
    packed(untold.tenants().filter(here).flat_map(move |tenant| untold.told(tenant, now, PART)))
}

fn packed(parts: impl Iterator<Item = TenantUse>) -> impl Iterator<Item = ReportUseRequest> {
    let mut parts = parts.peekable();
    iter::from_fn(move || {
        let first = parts.next()?;
        let mut bytes = first.encoded_len();
        let mut tenants = vec![first];
        while let Some(part) = parts.next_if(|part| bytes + part.encoded_len() <= PART) {
            bytes += part.encoded_len();
            tenants.push(part);
        }
        Some(ReportUseRequest { tenants })
    })
}

async fn tell(
    upstream: &Upstream,
    (group, member): &Member,
    requests: impl Iterator<Item = ReportUseRequest>,
) -> Result<(), String> {
    let channel = upstream.channel(group, member).ok_or("it is no member any more")?;
    let mut client = ShardServiceClient::new(channel);
    for request in requests {
        let answered = timeout(WITHIN, client.report_use(request)).await;
        answered.map_err(|_| format!("no answer within {WITHIN:?}"))?.map_err(|status| status.message().to_owned())?;
    }
    Ok(())
}
