//! `/api/v1/admin/roles`, and the same under the tenant: `/api/v1/admin/tenants/{t}/roles`

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use conflux_common::{
    error::{ApiError, Code},
    grant::Grant,
};
use conflux_proto::{
    internal::{RoleName, RoleRecord},
    log::placement_command::Op,
    principal::grant_to_wire,
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    call::{Call, Consistency, answer, json},
    page::Page,
    shapes::Role,
    tenants::Show,
};
use crate::{directory::roles::built_in, machine::credentials, machine::tenants, service::Service, store::Family};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    tenant: String,
    name: String,
    grants: Vec<Grant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    grants: Vec<Grant>,
}

async fn put(service: &Service, call: &Call, asked: Create, status: StatusCode) -> Result<Response, ApiError> {
    let grants = asked.grants.iter().map(grant_to_wire).collect();
    let role = RoleRecord { tenant: asked.tenant, name: asked.name, grants };
    call.propose(service, Op::PutRole(role.clone())).await?;
    json(status, &Role::from(role))
}

/// Makes or replaces a role of a tenant.
pub async fn create(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| put(&service, &call, call.body()?, StatusCode::CREATED).await).await
}

/// The same, with tenant and name in the path.
pub async fn set(
    State(service): State<Service>,
    Path((tenant, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(request, async |call| {
        let Set { grants } = call.body()?;
        put(&service, &call, Create { tenant, name, grants }, StatusCode::OK).await
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    tenant: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
    #[serde(default)]
    consistency: Consistency,
}

/// Of a tenant: the built-in ones and its own. Without a tenant: all own ones, in pages, after the built-in ones.
pub async fn list(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: List = call.query()?;
        if let Some(tenant) = asked.tenant {
            return of_tenant(&service, &call, asked.consistency, &tenant).await;
        }
        let page = Page::new(asked.limit, asked.cursor.as_deref())?;
        let read = call.read(&service, asked.consistency, |v| page.of::<RoleRecord>(v, Family::Role.range()));
        let (own, next_cursor) = read.await?;
        let first = built_in().filter(|_| asked.cursor.is_none());
        let roles: Vec<Role> = first.chain(own).map(Role::from).collect();
        json(StatusCode::OK, &serde_json::json!({ "roles": roles, "next_cursor": next_cursor }))
    })
    .await
}

/// The same as the list with a tenant.
pub async fn list_of(State(service): State<Service>, Path(tenant): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        of_tenant(&service, &call, asked.consistency, &tenant).await
    })
    .await
}

async fn of_tenant(
    service: &Service,
    call: &Call,
    consistency: Consistency,
    tenant: &str,
) -> Result<Response, ApiError> {
    let read = call.read(service, consistency, |v| {
        let own = tenants::by_name(v, tenant)?.map(|_| credentials::roles_of(v, tenant)).transpose()?;
        Ok(own)
    });
    let own = read.await?.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such tenant"))?;
    let roles: Vec<Role> = built_in().chain(own).map(Role::from).collect();
    json(StatusCode::OK, &serde_json::json!({ "roles": roles, "next_cursor": null }))
}

/// Deletes a tenant's own role; refused while a key has it.
pub async fn remove(
    State(service): State<Service>,
    Path((tenant, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(request, async |call| {
        let role = RoleName { tenant: tenant.clone(), name: name.clone() };
        call.propose(&service, Op::DeleteRole(role)).await?;
        json(StatusCode::OK, &serde_json::json!({ "tenant": tenant, "name": name, "deleted": true }))
    })
    .await
}
