//! One call to a shard that fills one set, beside the fetches that wanted it.

use std::{sync::Arc, time::Duration};

use conflux_common::ids::TenantId;
use conflux_proto::internal::{ReleaseSetRequest, ReleaseSetResponse, shard_service_client::ShardServiceClient};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Edge, FILLS, PARTS, set::Set, sets::Pending, tenants::Followed};
use crate::{routes::TenantRoute, watch::Vouched};

/// For the feed to join, and for somebody to vouch for it.
const JOINING: Duration = Duration::from_secs(3);
/// For one member's answer.
const PER_TRY: Duration = Duration::from_secs(2);
/// What a message has beside the contents: rules, names, media types.
const BESIDE: usize = 1 << 20;

/// Why a fill came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the feed does not vouch for the tenant")]
    Unvouched,
    #[error("no member has it: {0}")]
    Refused(String),
    #[error("its config was changed meanwhile")]
    Changed,
}

impl Edge {
    /// Fills the set beside whoever asked, once at a time.
    pub(super) fn fill(self: Arc<Self>, route: TenantRoute, what: Box<str>) {
        self.start();
        let Some(tenant) = self.tenants.follow(route.clone()) else { return };
        if tenant.rests() {
            return;
        }
        let Some(pending) = self.sets.begin(route.id, what) else { return };
        tokio::spawn(async move {
            let outcome = self.filled(&tenant, pending).await;
            self.counters.filled(match &outcome {
                Ok(()) => "filled",
                Err(Failed::Changed) => "changed",
                Err(_) => "refused",
            });
            if let Err(why) = outcome {
                tracing::debug!(tenant = %route.id, %why, "a release set was not filled");
                if !matches!(why, Failed::Changed) {
                    tenant.rest();
                }
            }
        });
    }

    async fn filled(&self, tenant: &Arc<Followed>, pending: Pending) -> Result<(), Failed> {
        let vouched = vouched(tenant).await.ok_or(Failed::Unvouched)?;
        let _turn = self.fills.acquire().await.map_err(|_| Failed::Unvouched)?;
        let said = self.ask(tenant, &vouched, pending.what()).await?;
        let set = Set::new(tenant, &vouched, pending.what(), &said).map_err(|e| Failed::Refused(e.to_string()))?;
        if pending.finish(set) { Ok(()) } else { Err(Failed::Changed) }
    }

    /// Asks the members of the tenant's group until one has at least what the feed has told.
    async fn ask(&self, tenant: &Followed, vouched: &Vouched, what: &str) -> Result<ReleaseSetResponse, Failed> {
        let route = tenant.place().route();
        let mut why = format!("{} has no member that is known", route.group);
        if route.epoch != vouched.epoch {
            return Err(Failed::Refused("it is on its way to another shard".into()));
        }
        let request = request(route.id, vouched, what, self.max_bytes());
        for peer in self.upstream.by_health(&route.group) {
            let Some(channel) = self.upstream.channel(&route.group, &peer.name) else { continue };
            let most = usize::try_from(request.max_bytes).unwrap_or(usize::MAX).saturating_add(BESIDE);
            let mut client = ShardServiceClient::new(channel).max_decoding_message_size(most);
            match timeout(PER_TRY, client.release_set(request.clone())).await {
                Ok(Ok(said)) => {
                    let said = said.into_inner();
                    // What was told before the call began was not noted for it: a member that is behind may lack it.
                    let reaches =
                        said.incarnation == vouched.mark.incarnation.0 && said.revision >= vouched.mark.revision.0;
                    if reaches {
                        return Ok(said);
                    }
                    why = format!("{} is behind", peer.name);
                }
                Ok(Err(status)) => why = format!("{}: {}", peer.name, status.message()),
                Err(_) => {
                    self.upstream.note_failure(&peer);
                    why = format!("{}: no answer within {PER_TRY:?}", peer.name);
                }
            }
        }
        Err(Failed::Refused(why))
    }

    /// Of one set. All that are filled at a time fit into the part that the cache leaves.
    fn max_bytes(&self) -> u64 {
        self.settings.bytes / (PARTS * FILLS as u64)
    }
}

fn request(tenant: TenantId, vouched: &Vouched, what: &str, max_bytes: u64) -> ReleaseSetRequest {
    let mut parts = what.splitn(3, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    ReleaseSetRequest { tenant_id: tenant.0, epoch: vouched.epoch.0, app: part(), env: part(), name: part(), max_bytes }
}

/// Waits until the tenant's changes are followed without a gap, and somebody says since when.
async fn vouched(tenant: &Followed) -> Option<Vouched> {
    let until = Instant::now() + JOINING;
    let mut changes = tenant.place().changes();
    loop {
        changes.borrow_and_update();
        if let Some(vouched) = tenant.vouched() {
            return Some(vouched);
        }
        timeout_at(until, changes.changed()).await.ok()?.ok()?;
    }
}
