//! `/_cluster/restored`: what this shard has of tenants, and operators' decisions on those that came from a backup.

use std::{ops::ControlFlow, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use conflux_common::{
    error::{ApiError, Code},
    ids::TenantId,
    tls::PeerId,
};
use conflux_proto::context::CallContext;
use conflux_raft::FatalError;
use serde::{Deserialize, Serialize};

use super::admission::Refused;
use crate::{ownership::restored, query, shard::Shard, store::tenant};

/// Rows of one answer.
const PAGE: usize = 1000;
/// A decision is one word.
const MAX_BODY: usize = 4096;

/// The routes. Operators only, or a gateway that speaks for one.
pub fn routes(shard: Arc<Shard>) -> Router {
    Router::new()
        .route("/_cluster/restored", get(list))
        .route("/_cluster/restored/{tenant}", post(decide))
        .with_state(shard)
}

fn operator(request: &Request) -> Result<(), ApiError> {
    CallContext::of(request.extensions().get::<PeerId>(), request.headers())?.require_operator()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    /// Ids above this.
    #[serde(default)]
    after: u64,
}

/// What the shard has of a tenant.
#[derive(Debug, Serialize)]
struct Held {
    id: u64,
    name: String,
    state: String,
    epoch: u64,
    incarnation: u64,
    revision: u64,
    /// It came from a backup and is not served.
    waits: bool,
}

#[derive(Debug, Serialize)]
struct Page {
    tenants: Vec<Held>,
    /// For `after`; null: this was the last.
    next: Option<u64>,
}

async fn list(State(shard): State<Arc<Shard>>, request: Request) -> Result<Response, Refused> {
    operator(&request)?;
    let Query(After { after }) =
        Query::try_from_uri(request.uri()).map_err(|e| ApiError::invalid("query", e.body_text()))?;
    let read = move || shard.node.read(|view| page(view, after));
    let failed = |e| ApiError::new(Code::Internal, format!("the read failed: {e}"));
    let page = conflux_common::blocking::spawn_blocking(read).await.map_err(failed)?.map_err(ApiError::from)?;
    let page = page.map_err(|e| ApiError::from(conflux_raft::ReadError::Fatal(e)))?;
    Ok(Json(page).into_response())
}

fn page(rows: &conflux_raft::View<'_>, after: u64) -> Result<Page, FatalError> {
    let mut tenants = Vec::new();
    let mut more = false;
    tenant::each(rows, |row| {
        if row.id <= after {
            return Ok(ControlFlow::Continue(()));
        }
        if tenants.len() == PAGE {
            more = true;
            return Ok(ControlFlow::Break(()));
        }
        let waits = query::waits(&row);
        let (id, name, state, epoch) = (row.id, row.name, row.state, row.epoch);
        tenants.push(Held { id, name, state, epoch, incarnation: row.incarnation, revision: row.revision, waits });
        Ok(ControlFlow::Continue(()))
    })?;
    let next = tenants.last().filter(|_| more).map(|last| last.id);
    Ok(Page { tenants, next })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Decision {
    Serve,
    Drop,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    decision: Decision,
}

async fn decide(
    State(shard): State<Arc<Shard>>,
    Path(tenant): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    operator(&request)?;
    let id = tenant.parse().map_err(|_| ApiError::invalid("tenant", "a tenant's id, a number"))?;
    let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
    let body = body.map_err(|_| ApiError::too_large(format!("the body may have at most {MAX_BODY} bytes")))?;
    let decided: Decided = conflux_common::body::json(&body)?;
    let answer = match decided.decision {
        Decision::Serve => {
            let epoch = restored::serve(&shard, TenantId(id)).await?;
            serde_json::json!({ "id": id, "decision": "serve", "epoch": epoch })
        }
        Decision::Drop => {
            restored::drop_copy(&shard, TenantId(id)).await?;
            serde_json::json!({ "id": id, "decision": "drop" })
        }
    };
    Ok(Json(answer).into_response())
}
