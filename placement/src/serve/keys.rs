//! `/api/v1/admin/keys`

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use conflux_common::{
    api_key::ApiKey,
    error::{ApiError, Code},
};
use conflux_proto::{
    internal::KeyRecord,
    log::{placement_answer::Result as Answer, placement_command::Op},
};
use conflux_raft::FatalError;
use http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    call::{Consistency, answer, json, unexpected},
    page::Page,
    shapes::{Key, Keys, Revoked},
    tenants::Show,
};
use crate::{
    machine::credentials,
    service::Service,
    store::{self, Family, rows::load},
};

/// A new key: of one tenant with roles, or of an operator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    operator: bool,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    description: String,
    /// Milliseconds since 1970; else never.
    #[serde(default)]
    expires_ms: Option<u64>,
}

/// Make a key.
///
/// The secret is made here, answered once and never stored: a repeated call (same idempotency key) is
/// answered without `key`.
#[utoipa::path(
    post, path = "/api/v1/admin/keys", tag = "keys", request_body = NewKey,
    responses((status = 201, description = "The one answer that has the secret.", body = Key))
)]
pub async fn create(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: NewKey = call.body()?;
        let key = ApiKey::generate();
        let record = KeyRecord {
            id: key.id().to_owned(),
            secret_hash: key.secret_hash().to_vec().into(),
            tenant: asked.tenant.unwrap_or_default(),
            operator: asked.operator,
            roles: asked.roles,
            description: asked.description,
            created_ms: 0,
            expires_ms: asked.expires_ms.unwrap_or(0),
        };
        let Answer::Key(made) = call.propose(&service, Op::PutKey(record)).await? else { return Err(unexpected()) };
        // Another id: the answer of an earlier try, whose secret nobody has any more.
        let secret = (made.id == key.id()).then(|| key.expose());
        json(StatusCode::CREATED, &Key::from(made).handed_out(secret))
    })
    .await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct List {
    /// Only this tenant's.
    tenant: Option<String>,
    /// Only operators'. Not together with tenant.
    operator: Option<bool>,
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

/// List keys.
///
/// All in pages, or all those of one tenant or of operators at once.
#[utoipa::path(
    get, path = "/api/v1/admin/keys", tag = "keys", params(List),
    responses((status = 200, description = "A page.", body = Keys))
)]
pub async fn list(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: List = call.query()?;
        let owner = match (asked.tenant, asked.operator) {
            (Some(_), Some(true)) => return Err(ApiError::invalid("operator", "not together with tenant")),
            (Some(tenant), _) => Some(tenant),
            (None, Some(true)) => Some(String::new()),
            (None, _) => None,
        };
        let page = Page::new(asked.limit, asked.cursor.as_deref())?;
        let read = |v: &conflux_raft::View<'_>| match &owner {
            None => page.of::<KeyRecord>(v, Family::ApiKey.range()),
            Some(owner) => Ok((keys_of(v, owner)?, None)),
        };
        let (rows, next_cursor) = call.read(&service, asked.consistency, read).await?;
        let keys = rows.into_iter().map(Key::from).collect();
        json(StatusCode::OK, &Keys { keys, next_cursor })
    })
    .await
}

fn keys_of(view: &conflux_raft::View<'_>, owner: &str) -> Result<Vec<KeyRecord>, FatalError> {
    let mut keys = Vec::new();
    for id in credentials::keys_of(view, owner)? {
        keys.extend(load::<KeyRecord>(view, &store::Key::ApiKey(id))?);
    }
    Ok(keys)
}

/// Show a key, without its secret.
#[utoipa::path(
    get, path = "/api/v1/admin/keys/{key}", tag = "keys", params(Show),
    responses((status = 200, description = "The key.", body = Key))
)]
pub async fn show(State(service): State<Service>, Path(id): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let row = store::Key::ApiKey(id);
        let found: Option<KeyRecord> = call.read(&service, asked.consistency, |v| load(v, &row)).await?;
        let found = found.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such key"))?;
        json(StatusCode::OK, &Key::from(found))
    })
    .await
}

/// Revoke a key.
///
/// It is refused everywhere from then on, as soon as gateways hear of it.
#[utoipa::path(
    delete, path = "/api/v1/admin/keys/{key}", tag = "keys",
    responses((status = 200, description = "Revoked.", body = Revoked))
)]
pub async fn revoke(State(service): State<Service>, Path(id): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        call.propose(&service, Op::RevokeKey(id.clone())).await?;
        json(StatusCode::OK, &Revoked { id, revoked: true })
    })
    .await
}
