//! `/api/v1/admin/tenants/{name}/quotas`

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    internal::TenantRecord,
    log::{SetQuotas, placement_answer::Result as Answer, placement_command::Op},
    quotas, v1,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    call::{answer, json, unexpected},
    tenants::{Show, settled},
};
use crate::{
    machine::tenants::{awaits_settings, by_name},
    service::Service,
};

/// What a tenant may have. Stable: fields are only added.
#[derive(Debug, Serialize, ToSchema)]
struct Quotas {
    tenant: String,
    /// As they hold, with the defaults.
    configs: u64,
    config_bytes: u64,
    versions: u64,
    total_bytes: u64,
    /// Those that an operator has set; the others are defaults.
    #[schema(value_type = Vec<String>)]
    set: Vec<&'static str>,
    /// Whether the tenant's shard goes by them already.
    applied: bool,
}

impl From<TenantRecord> for Quotas {
    fn from(tenant: TenantRecord) -> Self {
        let held = quotas::effective(tenant.quotas.as_ref());
        let given = quotas::from_wire(tenant.quotas.as_ref());
        let all = [
            ("configs", given.configs),
            ("config_bytes", given.config_bytes),
            ("versions", given.versions),
            ("total_bytes", given.total_bytes),
        ];
        Self {
            configs: held.configs,
            config_bytes: held.config_bytes,
            versions: held.versions,
            total_bytes: held.total_bytes,
            set: all.into_iter().filter(|(_, given)| *given > 0).map(|(name, _)| name).collect(),
            applied: !awaits_settings(&tenant),
            tenant: tenant.name,
        }
    }
}

/// What is not named is the default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewQuotas {
    configs: Option<u64>,
    config_bytes: Option<u64>,
    versions: Option<u64>,
    total_bytes: Option<u64>,
}

/// Show a tenant's quotas.
#[utoipa::path(
    get, path = "/api/v1/admin/tenants/{tenant}/quotas", tag = "tenants", params(Show),
    responses((status = 200, description = "As they hold.", body = Quotas))
)]
pub async fn show(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let found = call.read(&service, asked.consistency, |v| by_name(v, &name)).await?;
        let found = found.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such tenant"))?;
        json(StatusCode::OK, &Quotas::from(found))
    })
    .await
}

/// Replace a tenant's quotas.
#[utoipa::path(
    put, path = "/api/v1/admin/tenants/{tenant}/quotas", tag = "tenants", request_body = NewQuotas,
    responses((status = 200, description = "The tenant's shard goes by them.", body = Quotas),
        (status = 202, description = "They are set; the shard has not heard of them yet.", body = Quotas))
)]
pub async fn set(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: NewQuotas = call.body()?;
        let quotas = v1::Quotas {
            configs: asked.configs.unwrap_or_default(),
            config_bytes: asked.config_bytes.unwrap_or_default(),
            versions: asked.versions.unwrap_or_default(),
            total_bytes: asked.total_bytes.unwrap_or_default(),
        };
        let op = Op::SetQuotas(SetQuotas { tenant: name, quotas: Some(quotas) });
        let Answer::Tenant(set) = call.propose(&service, op).await? else { return Err(unexpected()) };
        let seq = set.settings_seq;
        let now = settled(&service, &call, set, move |t| t.settings_applied >= seq).await?;
        let status = if awaits_settings(&now) { StatusCode::ACCEPTED } else { StatusCode::OK };
        json(status, &Quotas::from(now))
    })
    .await
}
