//! Tells every member of each group what its tenants' clients fetched, so that a new leader knows what the old one knew.

use std::{collections::HashMap, sync::Arc, time::Duration, time::Instant};

use conflux_common::ids::{GroupName, MemberName};
use conflux_proto::internal::{ReportUseRequest, TenantUse, shard_service_client::ShardServiceClient};
use futures::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Sketch, Usage};
use crate::{
    routes::{Group, Routes},
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
    untold: HashMap<Member, Sketch>,
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
        self.share_out();
        let told = FuturesUnordered::new();
        for (member, untold) in std::mem::take(&mut self.untold) {
            let (upstream, requests) = (self.upstream.clone(), self.requests(&member.0, &untold));
            told.push(async move {
                let outcome = tell(&upstream, &member, requests).await;
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

    /// Adds what was counted since the last time to what each member of the tenants' groups is still to be told.
    fn share_out(&mut self) {
        let mut counted = self.usage.take();
        let groups: Vec<Arc<Group>> =
            self.routes.groups().into_iter().filter(|group| group.name.as_str() != PLACEMENT).collect();
        self.untold.retain(|(group, member), _| {
            groups.iter().any(|known| known.name == *group && known.member(member).is_some())
        });
        for group in groups {
            // A tenant that no group serves any more goes with the rest of `counted`.
            let part = counted.split(|tenant| self.routes.tenant_by_id(tenant).is_some_and(|r| r.group == group.name));
            if part.is_empty() {
                continue;
            }
            for member in &group.members {
                self.untold.entry((group.name.clone(), member.name.clone())).or_default().merge(part.clone());
            }
        }
    }

    /// Of the tenants that this group serves now: one that has moved meanwhile is no concern of it.
    fn requests(&self, group: &GroupName, untold: &Sketch) -> Vec<ReportUseRequest> {
        let now = Instant::now();
        let here = |tenant: &_| self.routes.tenant_by_id(*tenant).is_some_and(|route| route.group == *group);
        let parts = untold.tenants().filter(here).flat_map(|tenant| untold.told(tenant, now, PART));
        packed(parts)
    }
}

fn packed(parts: impl Iterator<Item = TenantUse>) -> Vec<ReportUseRequest> {
    let mut requests: Vec<ReportUseRequest> = Vec::new();
    let mut bytes = 0;
    for part in parts {
        let size = part.encoded_len();
        match requests.last_mut() {
            Some(open) if bytes + size <= PART => open.tenants.push(part),
            _ => {
                requests.push(ReportUseRequest { tenants: vec![part] });
                bytes = 0;
            }
        }
        bytes += size;
    }
    requests
}

async fn tell(upstream: &Upstream, (group, member): &Member, requests: Vec<ReportUseRequest>) -> Result<(), String> {
    let channel = upstream.channel(group, member).ok_or("it is no member any more")?;
    let mut client = ShardServiceClient::new(channel);
    for request in requests {
        let answered = timeout(WITHIN, client.report_use(request)).await;
        answered.map_err(|_| format!("no answer within {WITHIN:?}"))?.map_err(|status| status.message().to_owned())?;
    }
    Ok(())
}
