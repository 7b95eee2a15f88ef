//! Calls to placement: the linearizable look-up of one tenant.

use std::time::Duration;

use conflux_common::{
    error::{ApiError, Code, Hint},
    ids::{Epoch, GroupName, MemberName},
};
use conflux_proto::{
    internal::{self, lookup_tenant_request::By, placement_service_client::PlacementServiceClient},
    status::from_status,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    routes::{Routes, TenantRoute},
    upstream::{PLACEMENT, Upstream},
};

/// Look-ups under way at once: a flood of unknown tenants must not become a flood at placement.
const AT_ONCE: usize = 32;
/// For one member's answer.
const PER_TRY: Duration = Duration::from_secs(2);
/// Between two rounds over the members.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks placement where a tenant is.
pub struct Lookup {
    routes: Routes,
    upstream: Upstream,
    group: GroupName,
    under_way: Semaphore,
}

impl Lookup {
    /// Members of placement come from the group `placement` of the routes.
    pub fn new(routes: Routes, upstream: Upstream, group: GroupName) -> Self {
        debug_assert_eq!(group.as_str(), PLACEMENT);
        Self { routes, upstream, group, under_way: Semaphore::new(AT_ONCE) }
    }

    /// The tenant's present route, of at least this epoch if it exists: from the mirror if that is new enough, else
    /// from placement's leader. `None`: there is no such tenant.
    pub async fn tenant(
        &self,
        name: &conflux_common::ids::TenantName,
        floor: Epoch,
        deadline: Instant,
    ) -> Result<Option<TenantRoute>, ApiError> {
        let known = || self.routes.tenant(name).filter(|route| route.epoch >= floor);
        if let Some(route) = known() {
            return Ok(Some(route));
        }
        let late = || ApiError::new(Code::Unavailable, "placement does not answer").retry_after(Duration::from_secs(1));
        let turn = tokio::time::timeout_at(deadline, self.under_way.acquire()).await.map_err(|_| late())?;
        let _turn = turn.map_err(|_| late())?;
        if let Some(route) = known() {
            // Someone else asked while we waited for our turn.
            return Ok(Some(route));
        }
        let by = Some(By::Name(name.to_string()));
        let asked = tokio::time::timeout_at(deadline, self.ask(internal::LookupTenantRequest { by })).await;
        let answer = asked.map_err(|_| late())?;
        Ok(answer.tenant.filter(|_| answer.found).and_then(|record| self.routes.learn(&record)))
    }

    /// What it looks in first.
    #[cfg(test)]
    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Asks until the leader answers; the caller's deadline ends it.
    async fn ask(&self, request: internal::LookupTenantRequest) -> internal::LookupTenantResponse {
        let mut next: Option<MemberName> = self.routes.leader(&self.group);
        let mut others = self.upstream.by_health(&self.group).into_iter();
        loop {
            let Some(member) = next.take().or_else(|| others.next().map(|p| p.name.clone())) else {
                tokio::time::sleep(PAUSE).await;
                others = self.upstream.by_health(&self.group).into_iter();
                continue;
            };
            let Some(channel) = self.upstream.channel(&self.group, &member) else { continue };
            let mut call = tonic::Request::new(request.clone());
            call.set_timeout(PER_TRY);
            let mut client = PlacementServiceClient::new(channel);
            match tokio::time::timeout(PER_TRY, client.lookup_tenant(call)).await {
                Ok(Ok(answer)) => {
                    self.routes.note_leader(&self.group, Some(member));
                    return answer.into_inner();
                }
                Ok(Err(status)) => {
                    next = self.after_refusal(&member, &status);
                }
                Err(_) => self.routes.note_leader(&self.group, None),
            }
        }
    }

    /// Whom to ask next, if the refusal says it.
    fn after_refusal(&self, member: &MemberName, status: &tonic::Status) -> Option<MemberName> {
        let error = from_status(status);
        tracing::debug!(%member, %error, "placement refused a look-up");
        let Some(Hint::NotLeader(Some(leader))) = error.hint else {
            self.routes.note_leader(&self.group, None);
            return None;
        };
        let leader = MemberName::new(leader).ok().filter(|leader| leader != member)?;
        self.routes.note_leader(&self.group, Some(leader.clone()));
        Some(leader)
    }
}
