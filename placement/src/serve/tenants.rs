//! `/api/v1/admin/tenants`

use std::time::Duration;

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    internal::{TenantRecord, TenantState},
    log::{CreateTenant, DeleteTenantRecord, placement_answer::Result as Answer, placement_command::Op},
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    call::{Call, Consistency, answer, json, unexpected},
    page::Page,
    shapes::Tenant,
};
use crate::{machine::tenants, service::Service, store::Family};

/// Shards settle a tenant in milliseconds; who waits longer is told to look again.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    shard: Option<String>,
}

/// 201 once the tenant is Stable; 202 while its shard has not taken it.
pub async fn create(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Create = call.body()?;
        let (name, description) = (asked.name, asked.description);
        let op = Op::CreateTenant(CreateTenant { name, description, shard: asked.shard.unwrap_or_default() });
        let Answer::Tenant(made) = call.propose(&service, op).await? else { return Err(unexpected()) };
        let now = settled(&service, &call, made, |t| t.state() != TenantState::Creating).await?;
        let status = if now.state() == TenantState::Creating { StatusCode::ACCEPTED } else { StatusCode::CREATED };
        json(status, &Tenant::from(now))
    })
    .await
}

/// The write has taken effect: whatever the waiting comes to, it must not look like a failure.
pub async fn settled(
    service: &Service,
    call: &Call,
    record: TenantRecord,
    wanted: impl Fn(&TenantRecord) -> bool,
) -> Result<TenantRecord, ApiError> {
    let waited = service.wait_for_tenant(record.id, call.patience(SETTLE_WITHIN), wanted).await;
    Ok(waited.ok().flatten().unwrap_or(record))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    limit: Option<u32>,
    cursor: Option<String>,
    #[serde(default)]
    consistency: Consistency,
}

/// In the order in which they were made.
pub async fn list(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: List = call.query()?;
        let page = Page::new(asked.limit, asked.cursor.as_deref())?;
        let read = call.read(&service, asked.consistency, |v| page.of::<TenantRecord>(v, Family::Tenant.range()));
        let (rows, next_cursor) = read.await?;
        let tenants: Vec<Tenant> = rows.into_iter().map(Tenant::from).collect();
        json(StatusCode::OK, &serde_json::json!({ "tenants": tenants, "next_cursor": next_cursor }))
    })
    .await
}

/// How strong the read of one thing is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// linearizable unless given
    #[serde(default)]
    pub consistency: Consistency,
}

/// One tenant by its exact name.
pub async fn show(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let found = call.read(&service, asked.consistency, |v| tenants::by_name(v, &name)).await?;
        let found = found.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such tenant"))?;
        json(StatusCode::OK, &Tenant::from(found))
    })
    .await
}

/// 200 with state `gone` once nothing is left of it, 202 with `deleting` while its shard still clears it away.
pub async fn remove(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let op = Op::DeleteTenant(DeleteTenantRecord { name });
        let Answer::Tenant(deleting) = call.propose(&service, op).await? else { return Err(unexpected()) };
        let now = settled(&service, &call, deleting, |t| t.state() == TenantState::Gone).await?;
        let status = if now.state() == TenantState::Gone { StatusCode::OK } else { StatusCode::ACCEPTED };
        json(status, &Tenant::from(now))
    })
    .await
}
