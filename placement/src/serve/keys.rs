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

use super::{
    call::{Consistency, answer, json, unexpected},
    page::Page,
    shapes::Key,
    tenants::Show,
};
use crate::{
    machine::credentials,
    service::Service,
    store::{self, Family, rows::load},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    operator: bool,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    expires_ms: Option<u64>,
}

/// Makes a key. The secret is made here, answered once and never stored: a repeated call (same idempotency key) is
/// answered without `key`.
pub async fn create(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Create = call.body()?;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    tenant: Option<String>,
    operator: Option<bool>,
    limit: Option<u32>,
    cursor: Option<String>,
    #[serde(default)]
    consistency: Consistency,
}

/// All keys in pages, or all those of one tenant or of operators at once.
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
        let keys: Vec<Key> = rows.into_iter().map(Key::from).collect();
        json(StatusCode::OK, &serde_json::json!({ "keys": keys, "next_cursor": next_cursor }))
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

/// One key, without its secret.
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

/// Refused everywhere from then on, as soon as gateways hear of it.
pub async fn revoke(State(service): State<Service>, Path(id): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        call.propose(&service, Op::RevokeKey(id.clone())).await?;
        json(StatusCode::OK, &serde_json::json!({ "id": id, "revoked": true }))
    })
    .await
}
