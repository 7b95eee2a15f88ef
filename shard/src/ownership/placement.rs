//! Asking placement: its members in turn, following the hints of those that do not lead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conflux_common::{
    dial::MtlsConnector,
    error::{ApiError, Code, Hint},
    ids::TenantId,
    settings::PlacementAddress,
    tls::{Admission, Peers, Role, TlsContext},
};
use conflux_proto::{
    internal::{
        AdoptTenantRequest, GroupRecord, LookupTenantRequest, ReportGroupRequest, TenantRecord,
        lookup_tenant_request::By, placement_service_client::PlacementServiceClient,
    },
    status::from_status,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// One member has so long to answer before the next is asked.
const TRY: Duration = Duration::from_secs(1);
/// After all have been asked in vain.
const PAUSE: Duration = Duration::from_millis(100);

type Client = PlacementServiceClient<Channel>;

/// The members of placement, over mTLS. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Placement {
    members: Arc<[(String, Client)]>,
    preferred: Arc<AtomicUsize>,
}

/// An address in the settings that cannot be one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("placement member {member}: {address:?} is no host:port: {why}")]
pub struct InvalidAddress {
    member: String,
    address: String,
    why: String,
}

impl Placement {
    /// Dials nothing yet: each member is connected to on its first call.
    pub fn new(addresses: &[PlacementAddress], tls: &TlsContext) -> Result<Self, InvalidAddress> {
        let expected = Admission { cluster: tls.own_id().cluster, allowed: vec![Peers::Role(Role::Placement)] };
        let client = |at: &PlacementAddress| {
            let invalid = |e: tonic::transport::Error| InvalidAddress {
                member: at.member.to_string(),
                address: at.address.clone(),
                why: e.to_string(),
            };
            // The connector speaks TLS; tonic itself must not try to.
            let endpoint = Endpoint::from_shared(format!("http://{}", at.address)).map_err(invalid)?;
            let connector = MtlsConnector { tls: tls.clone(), expected: expected.clone() };
            let channel = endpoint
                .connect_timeout(TRY)
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(2))
                .keep_alive_while_idle(true)
                .connect_with_connector_lazy(connector);
            Ok((at.member.to_string(), PlacementServiceClient::new(channel)))
        };
        let members = addresses.iter().map(client).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { members: members.into(), preferred: Arc::default() })
    }

    /// Placement's record of the tenant, linearizable; none: there never was one. While the tenant moves, also the group that
    /// its rows are copied from.
    pub async fn lookup(
        &self,
        id: TenantId,
        until: Instant,
    ) -> Result<(Option<TenantRecord>, Option<GroupRecord>), ApiError> {
        let answer = self
            .ask(until, |mut client| async move {
                client.lookup_tenant(LookupTenantRequest { by: Some(By::Id(id.0)) }).await
            })
            .await?;
        Ok((answer.tenant.filter(|_| answer.found), answer.source))
    }

    /// Tells placement the committed membership of this group.
    pub async fn report(&self, group: GroupRecord, until: Instant) -> Result<(), ApiError> {
        self.ask(until, |mut client| {
            let report = ReportGroupRequest { group: Some(group.clone()) };
            async move { client.report_group(report).await }
        })
        .await?;
        Ok(())
    }

    /// Asks for a tenant that this shard has restored. Repeated, it gives another, higher epoch, which does no harm.
    pub async fn adopt(&self, claimed: TenantRecord, until: Instant) -> Result<TenantRecord, ApiError> {
        let answer = self
            .ask(until, |mut client| {
                let request = AdoptTenantRequest { tenant: Some(claimed.clone()) };
                async move { client.adopt_tenant(request).await }
            })
            .await?;
        answer.tenant.ok_or_else(|| ApiError::new(Code::Internal, "placement gave no epoch").outcome_unknown())
    }

    /// Asks until one answers. All calls may be repeated: a look-up changes nothing, a report says the same again.
    async fn ask<T, F>(&self, until: Instant, call: impl Fn(Client) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut at = self.preferred.load(Ordering::Relaxed);
        let mut last = String::from("no member is configured");
        for asked in 1.. {
            let left = until.saturating_duration_since(Instant::now());
            if self.members.is_empty() || left.is_zero() {
                break;
            }
            at %= self.members.len();
            let (name, client) = &self.members[at];
            match timeout(left.min(TRY), call(client.clone())).await {
                Ok(Ok(answer)) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => {
                    let error = from_status(&status);
                    if final_answer(&error) {
                        return Err(error);
                    }
                    at = self.leader_of(&error).unwrap_or(at + 1);
                    last = format!("{name}: {}", error.message);
                }
                Err(_) => {
                    at += 1;
                    last = format!("{name}: no answer within {TRY:?}");
                }
            }
            if asked % self.members.len() == 0 {
                sleep(PAUSE.min(until.saturating_duration_since(Instant::now()))).await;
            }
        }
        let text = format!("placement could not be asked ({last})");
        Err(ApiError::elsewhere(Hint::TryOther, text))
    }

    fn leader_of(&self, error: &ApiError) -> Option<usize> {
        let Some(Hint::NotLeader(Some(leader))) = &error.hint else { return None };
        self.members.iter().position(|(name, _)| name == leader)
    }
}

/// Whether another member would answer the same.
fn final_answer(error: &ApiError) -> bool {
    error.hint.is_none()
        && matches!(
            error.code,
            Code::InvalidArgument
                | Code::PermissionDenied
                | Code::Unimplemented
                | Code::FailedPrecondition
                | Code::AlreadyExists
        )
}
