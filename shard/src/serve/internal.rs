//! `internal.ShardService`: the feed for gateways, what gateways and placement tell, rows for shards that tenants move to.

use std::{sync::Arc, time::Duration};

use conflux_common::{
    error::{ApiError, Code},
    headers,
    ids::{Epoch, TenantId},
    tls::PeerId,
};
use conflux_proto::{
    internal::{
        EnsureTenantRequest, EnsureTenantResponse, ExportRowsRequest, ExportRowsResponse, FeedRequest, HistoryRequest,
        HistoryResponse, LoadsRequest, LoadsResponse, ReleaseSetRequest, ReleaseSetResponse, ReportUseRequest,
        ReportUseResponse, TenantLoad,
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
    transfer::{self, Progress},
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
    let task = conflux_common::blocking::spawn_blocking(read);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("the read failed: {e}")))??
}

async fn release_set(shard: &Arc<Shard>, asked: ReleaseSetRequest) -> Result<ReleaseSetResponse, ApiError> {
    let node = shard.node.clone();
    let read = move || {
        node.read(|view| {
            // A frozen tenant is refused: from its freeze on nobody can say when the set would stop being true.
            let row = query::check_owner(view, TenantId(asked.tenant_id), Epoch(asked.epoch))?;
            query::release_set(view, &row, &asked)
        })
    };
    let task = conflux_common::blocking::spawn_blocking(read);
    task.await.map_err(|e| ApiError::new(Code::Internal, format!("the read failed: {e}")))??
}

/// Where a tenant stands here.
fn stands(shard: &Shard, id: TenantId) -> Result<EnsureTenantResponse, ApiError> {
    let row = shard.node.read(|view| query::tenant(view, id))??;
    let state = row.as_ref().and_then(query::state_of).map_or("absent", TenantState::name).to_owned();
    let row = row.unwrap_or_default();
    let Progress { lag, trouble } = shard.transit.progress(id);
    Ok(EnsureTenantResponse {
        state,
        epoch: row.epoch,
        settings_seq: row.settings_seq,
        r#move: row.move_id,
        ended_move: row.ended_move,
        revision: row.revision,
        rows_hash: row.rows_hash,
        rows: row.rows,
        row_bytes: row.row_bytes,
        import_whole: row.import_whole,
        import_lag: lag,
        import_trouble: trouble,
    })
}

/// Size and load of every tenant that is not a tombstone.
async fn loads(shard: &Arc<Shard>) -> Result<LoadsResponse, ApiError> {
    shard.node.check_leader()?;
    let node = shard.node.clone();
    let task = conflux_common::blocking::spawn_blocking(move || node.read(|view| query::stored(view)));
    let rows = task.await.map_err(|e| ApiError::new(Code::Internal, format!("the read failed: {e}")))???;
    let load = |row: query::TenantRow| TenantLoad {
        tenant_id: row.id,
        epoch: row.epoch,
        rows: row.rows,
        row_bytes: row.row_bytes,
        revision: row.revision,
        fetches_per_second: shard.usage.fetches_per_second(TenantId(row.id)),
        state: row.state,
    };
    Ok(LoadsResponse { tenants: rows.into_iter().map(load).collect() })
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
    let task = conflux_common::blocking::spawn_blocking(take);
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

    async fn release_set(&self, request: Request<ReleaseSetRequest>) -> Result<Response<ReleaseSetResponse>, Status> {
        let id = request_id(&request);
        let answer = release_set(&self.shard, request.into_inner()).await;
        answer.map(Response::new).map_err(|e| to_status(&e, &id))
    }

    async fn ensure_tenant(
        &self,
        request: Request<EnsureTenantRequest>,
    ) -> Result<Response<EnsureTenantResponse>, Status> {
        let id = request_id(&request);
        let tenant = TenantId(request.into_inner().tenant_id);
        let ensured = self.shard.ownership.ensure(tenant, Instant::now() + ENSURE).await;
        let answer = ensured.and_then(|_| stands(&self.shard, tenant));
        answer.map(Response::new).map_err(|e| to_status(&e, &id))
    }

    async fn export_rows(&self, request: Request<ExportRowsRequest>) -> Result<Response<ExportRowsResponse>, Status> {
        let id = request_id(&request);
        let answer = match request.extensions().get::<PeerId>().cloned() {
            Some(peer) => transfer::export(&self.shard, &peer, request.into_inner()).await,
            None => Err(ApiError::new(Code::Unauthenticated, "no certificate was shown")),
        };
        answer.map(Response::new).map_err(|e| to_status(&e, &id))
    }

    async fn loads(&self, request: Request<LoadsRequest>) -> Result<Response<LoadsResponse>, Status> {
        let id = request_id(&request);
        loads(&self.shard).await.map(Response::new).map_err(|e| to_status(&e, &id))
    }

    async fn report_use(&self, request: Request<ReportUseRequest>) -> Result<Response<ReportUseResponse>, Status> {
        let id = request_id(&request);
        report_use(&self.shard, request.into_inner()).await.map_err(|e| to_status(&e, &id))?;
        Ok(Response::new(ReportUseResponse {}))
    }
}
