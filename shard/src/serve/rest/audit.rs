//! Who changed what.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use conflux_common::error::ApiError;
use conflux_proto::store;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Demanded, Paged},
};
use crate::{
    query::{AuditFilter, AuditVerdict},
    serve::{admission::Refused, answer, conditions::Level, managing},
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(verify))
}

/// One accepted change. `hash` is SHA-256 over the previous record's hash and this record without its own, encoded as protobuf
/// (`conflux.store.v1.AuditRecord`) in the order of its fields: so anybody can check the chain.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditRecord {
    /// 1, 2, 3 .. within the tenant.
    seq: u64,
    /// Milliseconds since 1970.
    time_ms: u64,
    /// `key:<id>`, `jwt:<issuer>#<subject>`; `shard:upkeep` for what time brought about.
    principal: String,
    /// `put_config`, `publish`, ..
    operation: String,
    /// `app/env/name`, `app/env` or `app`; of a changeset one on each line.
    target: String,
    /// Of the config; of a changeset one on each line.
    config_id: String,
    /// What was done, for people; of a changeset one on each line.
    summary: String,
    request_id: String,
    trace_id: String,
    /// Of the tenant, after the change.
    revision: u64,
    /// In hexadecimal; empty for the first record.
    previous_hash: String,
    /// In hexadecimal.
    hash: String,
}

impl From<store::AuditRecord> for AuditRecord {
    fn from(r: store::AuditRecord) -> Self {
        Self {
            seq: r.seq,
            time_ms: r.time_ms,
            principal: r.principal,
            operation: r.operation,
            target: r.target,
            config_id: r.config_id,
            summary: r.summary,
            request_id: r.request_id,
            trace_id: r.trace_id,
            revision: r.revision,
            previous_hash: hex::encode(&r.previous_hash),
            hash: hex::encode(&r.hash),
        }
    }
}

/// A page of accepted changes, newest first. It may hold fewer than were asked for, even none, and have a next page.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditRecords {
    records: Vec<AuditRecord>,
    /// For the next page; empty: this was the last.
    next_cursor: String,
}

/// Whether the chain of changes is whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditChain {
    valid: bool,
    /// How many records are kept.
    records: u64,
    /// The number of the oldest kept one; 0: none is kept.
    first: u64,
    /// The number of the newest one ever made.
    last: u64,
    /// The hash of the newest one, in hexadecimal.
    hash: String,
    /// The number of the record at which it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_at: Option<u64>,
    /// What is wrong there.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

impl From<AuditVerdict> for AuditChain {
    fn from(v: AuditVerdict) -> Self {
        Self {
            valid: v.broken.is_none(),
            records: v.records,
            first: v.first,
            last: v.last,
            hash: v.hash,
            broken_at: v.broken.as_ref().map(|b| b.seq),
            why: v.broken.map(|b| b.why),
        }
    }
}

/// List accepted changes, newest first.
///
/// Shown are changes of what the caller may read. The newest 100,000 of a tenant are kept. Refused attempts are not here.
#[utoipa::path(
    get, path = "/audit", tag = "audit",
    params(
        ("from" = Option<String>, Query, description = "Not before this moment: RFC 3339, or milliseconds since 1970."),
        ("to" = Option<String>, Query, description = "Before this moment."),
        ("principal" = Option<String>, Query, description = "Only by this one."),
        ("operation" = Option<String>, Query, description = "Only of this kind: `put_config`, `publish`, .."),
        ("app" = Option<String>, Query, description = "Only of this application."),
        ("env" = Option<String>, Query, description = "Only of this environment."),
        ("name" = Option<String>, Query, description = "Only of this config name."),
        Paged, Demanded
    ),
    responses((status = 200, description = "A page of changes.", body = AuditRecords))
)]
async fn list(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let filter = AuditFilter {
        from_ms: moment("from", &asked.param("from"))?,
        to_ms: moment("to", &asked.param("to"))?,
        principal: asked.param("principal"),
        operation: asked.param("operation"),
        app: asked.param("app"),
        env: asked.param("env"),
        name: asked.param("name"),
    };
    let page = asked.page()?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, (records, next_cursor)) = managing::list_audit(&shard, &asked.call, filter, page, demand).await?;
    let records = records.into_iter().map(AuditRecord::from).collect();
    Ok(answer::json(&at, &AuditRecords { records, next_cursor }))
}

/// Check the chain of accepted changes.
///
/// Each kept record is hashed again and compared with its neighbours, the newest with the tenant's own record. Needs `read` on `*/*/*`.
#[utoipa::path(
    get, path = "/audit/verify", tag = "audit", params(Demanded),
    responses((status = 200, description = "The verdict.", body = AuditChain))
)]
async fn verify(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, verdict) = managing::verify_audit(&shard, &asked.call, demand).await?;
    Ok(answer::json(&at, &AuditChain::from(verdict)))
}

/// A moment in milliseconds since 1970; empty: 0.
fn moment(field: &str, text: &str) -> Result<u64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    let of_text = || {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
    };
    let found = text.parse().ok().or_else(of_text).filter(|ms| *ms > 0);
    found.ok_or_else(|| ApiError::invalid(field, "a moment after 1970: 2026-11-21T14:00:00Z, or milliseconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time that is read wrongly shows an auditor the wrong changes.
    #[test]
    fn moments_are_rfc_3339_or_milliseconds() {
        assert_eq!(moment("from", "").unwrap(), 0);
        assert_eq!(moment("from", "1700000000123").unwrap(), 1_700_000_000_123);
        assert_eq!(moment("from", "2023-11-14T22:13:20.123Z").unwrap(), 1_700_000_000_123);
        assert_eq!(moment("from", "2023-11-14T23:13:20+01:00").unwrap(), 1_700_000_000_000);
        for bad in ["yesterday", "-1", "0", "1960-01-01T00:00:00Z", "2023-11-14"] {
            assert_eq!(moment("from", bad).unwrap_err().details[0].field, "from", "{bad}");
        }
    }
}
