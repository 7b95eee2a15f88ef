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
use utoipa::{IntoParams, ToSchema};

use super::{
    call::{Call, Consistency, answer, json},
    page::Page,
    shapes::{DeletedRole, Role, Roles},
    tenants::Show,
};
use crate::{directory::roles::built_in, machine::credentials, machine::tenants, service::Service, store::Family};

/// A role of a tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRole {
    tenant: String,
    name: String,
    grants: Vec<Grant>,
}

/// What a role allows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RoleGrants {
    grants: Vec<Grant>,
}

async fn put(service: &Service, call: &Call, asked: NewRole, status: StatusCode) -> Result<Response, ApiError> {
    let grants = asked.grants.iter().map(grant_to_wire).collect();
    let role = RoleRecord { tenant: asked.tenant, name: asked.name, grants };
    call.propose(service, Op::PutRole(role.clone())).await?;
    json(status, &Role::from(role))
}

/// Make or replace a role of a tenant.
#[utoipa::path(
    post, path = "/api/v1/admin/roles", tag = "roles", request_body = NewRole,
    responses((status = 201, description = "The role.", body = Role))
)]
pub async fn create(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| put(&service, &call, call.body()?, StatusCode::CREATED).await).await
}

/// Make or replace a role, with tenant and name in the path.
#[utoipa::path(
    put, path = "/api/v1/admin/tenants/{tenant}/roles/{role}", tag = "roles", request_body = RoleGrants,
    responses((status = 200, description = "The role.", body = Role))
)]
pub async fn set(
    State(service): State<Service>,
    Path((tenant, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(request, async |call| {
        let RoleGrants { grants } = call.body()?;
        put(&service, &call, NewRole { tenant, name, grants }, StatusCode::OK).await
    })
    .await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct List {
    /// Only this tenant's, with the built-in ones.
    tenant: Option<String>,
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

/// List roles.
///
/// Of a tenant: the built-in ones and its own. Without a tenant: all own ones, in pages, after the built-in ones.
#[utoipa::path(
    get, path = "/api/v1/admin/roles", tag = "roles", params(List),
    responses((status = 200, description = "A page.", body = Roles))
)]
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
        let roles = first.chain(own).map(Role::from).collect();
        json(StatusCode::OK, &Roles { roles, next_cursor })
    })
    .await
}

/// List a tenant's roles, the built-in ones first.
#[utoipa::path(
    get, path = "/api/v1/admin/tenants/{tenant}/roles", tag = "roles", params(Show),
    responses((status = 200, description = "All of them.", body = Roles))
)]
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
    let roles = built_in().chain(own).map(Role::from).collect();
    json(StatusCode::OK, &Roles { roles, next_cursor: None })
}

/// Delete a tenant's own role.
///
/// Refused while a key has it.
#[utoipa::path(
    delete, path = "/api/v1/admin/tenants/{tenant}/roles/{role}", tag = "roles",
    responses((status = 200, description = "Deleted.", body = DeletedRole))
)]
pub async fn remove(
    State(service): State<Service>,
    Path((tenant, name)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(request, async |call| {
        let role = RoleName { tenant: tenant.clone(), name: name.clone() };
        call.propose(&service, Op::DeleteRole(role)).await?;
        json(StatusCode::OK, &DeletedRole { tenant, name, deleted: true })
    })
    .await
}

/// Delete a tenant's own role, as it is listed below `/api/v1/admin/roles`.
#[utoipa::path(
    delete, path = "/api/v1/admin/roles/{tenant}/{role}", tag = "roles",
    responses((status = 200, description = "Deleted.", body = DeletedRole))
)]
pub async fn remove_listed(service: State<Service>, role: Path<(String, String)>, request: Request) -> Response {
    remove(service, role, request).await
}
