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
use utoipa::{IntoParams, ToSchema};

use super::{
    call::{Call, Consistency, answer, json, unexpected},
    page::Page,
    shapes::{Tenant, Tenants},
};
use crate::{machine::tenants, service::Service, store::Family};

/// Shards settle a tenant in milliseconds; who waits longer is told to look again.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);

/// A new tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    name: String,
    #[serde(default)]
    description: String,
    /// Else placement chooses.
    #[serde(default)]
    shard: Option<String>,
}

/// Create a tenant.
#[utoipa::path(
    post, path = "/api/v1/admin/tenants", tag = "tenants", request_body = NewTenant,
    responses((status = 201, description = "It is served.", body = Tenant),
        (status = 202, description = "It is made; its shard has not taken it yet.", body = Tenant))
)]
pub async fn create(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: NewTenant = call.body()?;
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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct List {
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// linearizable unless given
    #[serde(default)]
    #[param(inline, required = false)]
    consistency: Consistency,
}

/// List tenants, in the order in which they were made.
#[utoipa::path(
    get, path = "/api/v1/admin/tenants", tag = "tenants", params(List),
    responses((status = 200, description = "A page.", body = Tenants))
)]
pub async fn list(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: List = call.query()?;
        let page = Page::new(asked.limit, asked.cursor.as_deref())?;
        let read = call.read(&service, asked.consistency, |v| page.of::<TenantRecord>(v, Family::Tenant.range()));
        let (rows, next_cursor) = read.await?;
        let tenants = rows.into_iter().map(Tenant::from).collect();
        json(StatusCode::OK, &Tenants { tenants, next_cursor })
    })
    .await
}

/// How strong the read of one thing is.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Show {
    /// linearizable unless given
    #[serde(default)]
    #[param(inline, required = false)]
    pub consistency: Consistency,
}

/// Show a tenant.
#[utoipa::path(
    get, path = "/api/v1/admin/tenants/{tenant}", tag = "tenants", params(Show),
    responses((status = 200, description = "The tenant.", body = Tenant))
)]
pub async fn show(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let found = call.read(&service, asked.consistency, |v| tenants::by_name(v, &name)).await?;
        let found = found.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such tenant"))?;
        json(StatusCode::OK, &Tenant::from(found))
    })
    .await
}

/// Delete a tenant and everything in it.
#[utoipa::path(
    delete, path = "/api/v1/admin/tenants/{tenant}", tag = "tenants",
    responses((status = 200, description = "Nothing is left of it.", body = Tenant),
        (status = 202, description = "It is served no more; its shard still clears it away.", body = Tenant))
)]
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
