//! `internal.PlacementService`: for gateways, shards and placement's own members.

use std::{pin::Pin, sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code},
    headers,
    tls::{PeerId, Role},
};
use conflux_proto::{
    internal::{
        AdoptTenantRequest, AdoptTenantResponse, ChangesRequest, ChangesResponse, GroupRecord, LookupTenantRequest,
        LookupTenantResponse, ReportGroupRequest, ReportGroupResponse, lookup_tenant_request::By,
        placement_service_server::PlacementService,
    },
    log::{AdoptTenant, PlacementCommand, placement_answer::Result as Answer, placement_command::Op},
    status::to_status,
};
use futures::Stream;
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Request, Response, Status};

use super::{call::unexpected, changes};
use crate::{
    machine::{groups, holds, restored, tenants},
    service::Service,
};

/// Streams of changes on one member.
const MAX_STREAMS: usize = 512;
/// For a look-up or a report whose caller says nothing else.
const WITHIN: Duration = Duration::from_secs(5);

/// The calls.
pub struct Rpc {
    service: Service,
    streams: Arc<Semaphore>,
}

impl Rpc {
    /// On this member.
    pub fn new(service: Service) -> Self {
        Self { service, streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    async fn look_up(&self, request: LookupTenantRequest) -> Result<LookupTenantResponse, ApiError> {
        let by = request.by.ok_or_else(|| ApiError::invalid("by", "id or name"))?;
        let read = self.service.read_linearizable(Instant::now() + WITHIN, |view| {
            let tenant = match &by {
                By::Id(id) => tenants::by_id_or_gone(view, *id)?,
                By::Name(name) => tenants::by_name(view, name)?,
            };
            let from = tenant.as_ref().and_then(|tenant| tenant.r#move.as_ref()).map(|under_way| &under_way.from);
            let source = from.map(|from| groups::by_name(view, from)).transpose()?.flatten();
            Ok((tenant, source))
        });
        let (tenant, source) = read.await?;
        Ok(LookupTenantResponse { found: tenant.is_some(), tenant, source })
    }

    async fn take_report(&self, peer: Option<PeerId>, report: Option<GroupRecord>) -> Result<(), ApiError> {
        let mut report = report.ok_or_else(|| ApiError::invalid("group", "missing"))?;
        let peer = peer.filter(|p| p.role == Role::Shard);
        let own = peer.as_ref().and_then(|p| p.group.as_ref());
        if own.is_none_or(|group| group.as_str() != report.name) {
            let why = "a shard group is reported by its own members only";
            return Err(ApiError::new(Code::PermissionDenied, why));
        }
        self.service.node.check_leader()?;
        if self.service.level() < groups::REMOVAL_LEVEL {
            report.founding.clear();
            (report.restored_ms, report.highest_tenant_id) = (0, 0);
            // A restored placement counts on the highest id: it opens once its members are of one mind.
            if self.service.read(|view| holds::closed(view))?.is_some() {
                return Ok(());
            }
        }
        // Reports come every few seconds; only news becomes a log entry.
        let known = self.service.read(|view| groups::by_name(view, &report.name))?;
        let awaited = self.service.read(|view| restored::awaits(view, &report))?;
        if !awaited && !groups::tells_more(known.as_ref(), &report) {
            return Ok(());
        }
        let principal = peer.map(|p| p.to_string()).unwrap_or_default();
        let command = PlacementCommand { principal, op: Some(Op::ReportGroup(report)), ..Default::default() };
        self.service.propose(&command, Instant::now() + WITHIN).await.map(|_| ())
    }
}

impl Rpc {
    /// Of the asking shard's own tenants only.
    async fn adopt(&self, peer: Option<PeerId>, asked: AdoptTenantRequest) -> Result<AdoptTenantResponse, ApiError> {
        let tenant = asked.tenant.ok_or_else(|| ApiError::invalid("tenant", "missing"))?;
        let peer = peer.filter(|p| p.role == Role::Shard);
        let own = peer.as_ref().and_then(|p| p.group.as_ref());
        if own.is_none_or(|group| group.as_str() != tenant.shard) {
            return Err(ApiError::new(Code::PermissionDenied, "a shard adopts for itself only"));
        }
        let op = Op::AdoptTenant(AdoptTenant {
            id: tenant.id,
            name: tenant.name,
            shard: tenant.shard,
            epoch: tenant.epoch,
            incarnation: tenant.incarnation,
        });
        let principal = peer.map(|p| p.to_string()).unwrap_or_default();
        let command = PlacementCommand { principal, op: Some(op), ..Default::default() };
        match self.service.propose(&command, Instant::now() + WITHIN).await? {
            Answer::Tenant(tenant) => Ok(AdoptTenantResponse { tenant: Some(tenant) }),
            _ => Err(unexpected()),
        }
    }
}

fn request_id<T>(request: &Request<T>) -> String {
    let id = request.metadata().get(headers::REQUEST_ID).and_then(|v| v.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// Operators and whoever else the port may admit one day have no business here.
fn admit<T>(request: &Request<T>, roles: &[Role]) -> Result<(), ApiError> {
    let peer = request.extensions().get::<PeerId>();
    if peer.is_some_and(|p| roles.contains(&p.role)) {
        return Ok(());
    }
    Err(ApiError::new(Code::PermissionDenied, "this call is for gateways and shards"))
}

#[tonic::async_trait]
impl PlacementService for Rpc {
    type ChangesStream = Pin<Box<dyn Stream<Item = Result<ChangesResponse, Status>> + Send>>;

    async fn changes(&self, request: Request<ChangesRequest>) -> Result<Response<Self::ChangesStream>, Status> {
        let id = request_id(&request);
        let open = || {
            admit(&request, &[Role::Gateway, Role::Placement])?;
            let slot = self.streams.clone().try_acquire_owned().map_err(|_| {
                ApiError::new(Code::ResourceExhausted, "too many streams of changes on this member")
                    .retry_after(Duration::from_secs(1))
            })?;
            changes::stream(self.service.clone(), request.get_ref(), slot, id.clone())
        };
        let stream = open().map_err(|e| to_status(&e, &id))?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn lookup_tenant(
        &self,
        request: Request<LookupTenantRequest>,
    ) -> Result<Response<LookupTenantResponse>, Status> {
        let id = request_id(&request);
        admit(&request, &[Role::Gateway, Role::Shard, Role::Placement]).map_err(|e| to_status(&e, &id))?;
        let answer = self.look_up(request.into_inner()).await;
        answer.map(Response::new).map_err(|e| to_status(&e, &id))
    }

    async fn adopt_tenant(
        &self,
        request: Request<AdoptTenantRequest>,
    ) -> Result<Response<AdoptTenantResponse>, Status> {
        let id = request_id(&request);
        let peer = request.extensions().get::<PeerId>().cloned();
        self.adopt(peer, request.into_inner()).await.map(Response::new).map_err(|e| to_status(&e, &id))
    }

    async fn report_group(
        &self,
        request: Request<ReportGroupRequest>,
    ) -> Result<Response<ReportGroupResponse>, Status> {
        let id = request_id(&request);
        let peer = request.extensions().get::<PeerId>().cloned();
        let taken = self.take_report(peer, request.into_inner().group).await;
        taken.map(|()| Response::new(ReportGroupResponse {})).map_err(|e| to_status(&e, &id))
    }
}
