//! `internal.ShardService`: the feed for gateways, what gateways and placement tell.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code},
    headers,
    ids::{Epoch, TenantId},
};
use conflux_proto::{
    internal::{
        EnsureTenantRequest, EnsureTenantResponse, ExportRowsRequest, ExportRowsResponse, FeedRequest, HistoryRequest,
        HistoryResponse, LoadsRequest, LoadsResponse, ReportUseRequest, ReportUseResponse,
        shard_service_server::{ShardService, ShardServiceServer},
    },
    status::to_status,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    feed::{FeedStream, feed},
    machine::TenantState,
    query,
    shard::Shard,
};

/// `EnsureTenant` has so long for the look-up and its log entry.
const ENSURE: Duration = Duration::from_secs(5);

/// The service.
pub struct Internal {
    shard: Arc<Shard>,
}

/// `conflux.internal.v1.ShardService`.
pub fn shard_service(shard: Arc<Shard>) -> ShardServiceServer<Internal> {
    ShardServiceServer::new(Internal { shard })
}

fn request_id<T>(request: &Request<T>) -> String {
    let id = request.metadata().get(headers::REQUEST_ID).and_then(|v| v.to_str().ok());
    id.unwrap_or_default().to_owned()
}

async fn history(shard: &Arc<Shard>, asked: HistoryRequest) -> Result<HistoryResponse, ApiError> {
    let node = shard.node.clone();
    let read = move || {
        node.read(|view| {
            let row = query::check_owner(view, TenantId(asked.tenant_id), Epoch(asked.epoch))?;
            query::history(view, &row, asked.after, asked.to, asked.limit)
        })
    };
    let task = tokio::task::spawn_blocking(read);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("the read failed: {e}")))??
}

/// A report in the memory of this member: of the tenants that it serves now.
async fn report_use(shard: &Arc<Shard>, report: ReportUseRequest) -> Result<(), ApiError> {
    let shard = shard.clone();
    let take = move || {
        let asked: Vec<TenantId> = report.tenants.iter().map(|t| TenantId(t.tenant_id)).collect();
        let here = shard.node.read(|view| {
            let active = |tenant: &TenantId| match query::tenant(view, *tenant) {
                Ok(row) => Ok(row.is_some_and(|row| query::state_of(&row) == Some(TenantState::Active))),
                Err(error) => Err(error),
            };
            let mut here = Vec::new();
            for tenant in asked {
                if active(&tenant)? {
                    here.push(tenant);
                }
            }
            Ok::<_, ApiError>(here)
        })??;
        shard.usage.take(report, |tenant| here.contains(&tenant));
        Ok(())
    };
    let task = tokio::task::spawn_blocking(take);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("taking the report failed: {e}")))?
}

#[tonic::async_trait]
impl ShardService for Internal {
    type FeedStream = FeedStream;

    async fn feed(&self, request: Request<Streaming<FeedRequest>>) -> Result<Response<FeedStream>, Status> {
        let id = request_id(&request);
        Ok(Response::new(feed(self.shard.clone(), request.into_inner(), id)))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let id = request_id(&request);
        let answer = history(&self.shard, request.into_inner()).await;
        answer.map(Response::new).map_err(|e| to_status(&e, &id))
    }

    async fn ensure_tenant(
        &self,
        request: Request<EnsureTenantRequest>,
    ) -> Result<Response<EnsureTenantResponse>, Status> {
        let id = request_id(&request);
        let tenant = TenantId(request.into_inner().tenant_id);
        let standing = self.shard.ownership.ensure(tenant, Instant::now() + ENSURE).await;
        let standing = standing.map_err(|e| to_status(&e, &id))?;
        let state = standing.state.map_or("absent", |state| state.name()).to_owned();
        Ok(Response::new(EnsureTenantResponse {
            state,
            epoch: standing.epoch.0,
            settings_seq: standing.settings_seq,
            ..Default::default()
        }))
    }

    async fn export_rows(&self, _: Request<ExportRowsRequest>) -> Result<Response<ExportRowsResponse>, Status> {
        Err(Status::unimplemented("tenants cannot be moved yet"))
    }

    async fn loads(&self, _: Request<LoadsRequest>) -> Result<Response<LoadsResponse>, Status> {
        Err(Status::unimplemented("tenants cannot be moved yet"))
    }

    async fn report_use(&self, request: Request<ReportUseRequest>) -> Result<Response<ReportUseResponse>, Status> {
        let id = request_id(&request);
        report_use(&self.shard, request.into_inner()).await.map_err(|e| to_status(&e, &id))?;
        Ok(Response::new(ReportUseResponse {}))
    }
}
