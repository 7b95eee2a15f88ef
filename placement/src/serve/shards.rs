//! `/api/v1/admin/shards`

use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use conflux_common::error::{ApiError, Code};
use conflux_proto::log::{SetShardWeight, placement_command::Op};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    call::{answer, json},
    shapes::{Shard, Shards},
    tenants::Show,
};
use crate::{machine::groups, service::Service};

fn missing() -> ApiError {
    ApiError::new(Code::NotFound, "no shard of this name has reported to placement")
}

/// List the shards, by name.
#[utoipa::path(
    get, path = "/api/v1/admin/shards", tag = "shards", params(Show),
    responses((status = 200, description = "All of them.", body = Shards))
)]
pub async fn list(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let groups = call.read(&service, asked.consistency, |v| groups::all(v)).await?;
        let shards = groups.into_iter().map(Shard::from).collect();
        json(StatusCode::OK, &Shards { shards })
    })
    .await
}

/// Show a shard.
#[utoipa::path(
    get, path = "/api/v1/admin/shards/{shard}", tag = "shards", params(Show),
    responses((status = 200, description = "The shard.", body = Shard))
)]
pub async fn show(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let found = call.read(&service, asked.consistency, |v| groups::by_name(v, &name)).await?;
        json(StatusCode::OK, &Shard::from(found.ok_or_else(missing)?))
    })
    .await
}

/// How many of the new tenants a shard takes, against the others.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ShardWeight {
    /// 0: none.
    weight: u32,
}

/// Set a shard's weight.
///
/// It decides on new tenants only: nobody is moved.
#[utoipa::path(
    patch, path = "/api/v1/admin/shards/{shard}", tag = "shards", request_body = ShardWeight,
    responses((status = 200, description = "As it is now.", body = Shard))
)]
pub async fn change(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: ShardWeight = call.body()?;
        let set = SetShardWeight { shard: name.clone(), weight: asked.weight };
        call.propose(&service, Op::SetShardWeight(set)).await?;
        let now = service.read(|v| groups::by_name(v, &name))?;
        json(StatusCode::OK, &Shard::from(now.ok_or_else(missing)?))
    })
    .await
}

/// Remove a shard that has no tenants.
///
/// Refused with 412 while it has some. Stop the processes of its members afterwards; what they still report is refused.
#[utoipa::path(
    delete, path = "/api/v1/admin/shards/{shard}", tag = "shards",
    responses((status = 204, description = "It is gone."))
)]
pub async fn remove(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        service.node.check_leader()?;
        if service.level() < groups::REMOVAL_LEVEL {
            let why = "not every member of placement runs a release that knows how: upgrade them first";
            return Err(ApiError::new(Code::FailedPrecondition, why));
        }
        call.propose(&service, Op::RemoveShard(name.clone())).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}
