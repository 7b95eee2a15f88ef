//! `/api/v1/admin/hold`

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use conflux_common::error::{ApiError, Code};
use conflux_proto::{
    log::{PutHold, placement_answer::Result as Answer, placement_command::Op},
    store::Hold as Row,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    call::{Call, answer, json, unexpected},
    tenants::Show,
};
use crate::{machine::holds, service::Service};

/// Without `ttl_ms`.
const TTL_MS: u64 = 60_000;

/// Why tenants stay as they are. Stable: fields are only added.
#[derive(Debug, Serialize, ToSchema)]
struct Held {
    /// The hold that stands; null: none.
    hold: Option<Hold>,
    /// Whether tenants are neither made, deleted nor moved now, whatever the reason.
    held: bool,
    /// The reason, in words.
    reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Hold {
    id: String,
    purpose: String,
    /// Who began it.
    principal: String,
    since_ms: u64,
    /// It ends then unless it is renewed.
    expires_ms: u64,
}

impl From<Row> for Hold {
    fn from(row: Row) -> Self {
        let Row { id, purpose, principal, since_ms, expires_ms } = row;
        Self { id, purpose, principal, since_ms, expires_ms }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewHold {
    /// For people who are refused meanwhile.
    #[schema(min_length = 1, max_length = 200)]
    purpose: String,
    /// It ends so long after its last renewal; 60000 by default.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 600_000)]
    ttl_ms: Option<u64>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Renewal {
    #[serde(default)]
    #[schema(minimum = 1, maximum = 600_000)]
    ttl_ms: Option<u64>,
}

/// Show whether tenants may be made, deleted and moved.
#[utoipa::path(
    get, path = "/api/v1/admin/hold", tag = "tenants", params(Show),
    responses((status = 200, description = "What holds them.", body = Held))
)]
pub async fn show(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let now_ms = service.node.group_time_ms();
        let read = |v: &conflux_raft::View<'_>| Ok((holds::standing(v, now_ms)?, holds::is_held(v, now_ms)?));
        let (hold, reason) = call.read(&service, asked.consistency, read).await?;
        json(StatusCode::OK, &Held { hold: hold.map(Hold::from), held: reason.is_some(), reason })
    })
    .await
}

/// Hold tenants as they are: none is made, deleted or moved until the hold ends.
#[utoipa::path(
    post, path = "/api/v1/admin/hold", tag = "tenants", request_body = NewHold,
    responses((status = 201, description = "It stands.", body = Hold))
)]
pub async fn begin(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: NewHold = call.body()?;
        let id = format!("{:032x}", rand::random::<u128>());
        let ttl_ms = asked.ttl_ms.unwrap_or(TTL_MS);
        put(&call, &service, PutHold { id, purpose: asked.purpose, ttl_ms, renew: false }, StatusCode::CREATED).await
    })
    .await
}

/// Renew a hold. One that has ended is refused: what was done under it may not fit together.
#[utoipa::path(
    put, path = "/api/v1/admin/hold/{id}", tag = "tenants", request_body = Renewal,
    responses((status = 200, description = "It stood all the time, and goes on.", body = Hold))
)]
pub async fn renew(State(service): State<Service>, Path(id): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Renewal = call.body()?;
        let ttl_ms = asked.ttl_ms.unwrap_or(TTL_MS);
        put(&call, &service, PutHold { id, purpose: String::new(), ttl_ms, renew: true }, StatusCode::OK).await
    })
    .await
}

async fn put(call: &Call, service: &Service, put: PutHold, status: StatusCode) -> Result<Response, ApiError> {
    service.node.check_leader()?;
    if service.level() < holds::LEVEL {
        let why = "not every member of placement runs a release that knows holds: upgrade them first";
        return Err(ApiError::new(Code::FailedPrecondition, why));
    }
    let Answer::Hold(hold) = call.propose(service, Op::PutHold(put)).await? else { return Err(unexpected()) };
    json(status, &Hold::from(hold))
}

/// What a release answers.
#[derive(Debug, Serialize, ToSchema)]
struct Released {
    id: String,
    /// false: it had ended before.
    released: bool,
}

/// End a hold.
#[utoipa::path(
    delete, path = "/api/v1/admin/hold/{id}", tag = "tenants",
    responses((status = 200, description = "It stands no more.", body = Released))
)]
pub async fn release(State(service): State<Service>, Path(id): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let op = Op::ReleaseHold(id.clone());
        let Answer::Done(released) = call.propose(&service, op).await? else { return Err(unexpected()) };
        json(StatusCode::OK, &Released { id, released })
    })
    .await
}
