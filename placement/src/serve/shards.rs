//! `/api/v1/admin/shards`

use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use conflux_common::error::{ApiError, Code};
use conflux_proto::log::{SetShardWeight, placement_command::Op};
use http::StatusCode;
use serde::Deserialize;

use super::{
    call::{answer, json},
    shapes::Shard,
    tenants::Show,
};
use crate::{machine::groups, service::Service};

fn missing() -> ApiError {
    ApiError::new(Code::NotFound, "no shard of this name has reported to placement")
}

/// All of them, by name.
pub async fn list(State(service): State<Service>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let groups = call.read(&service, asked.consistency, |v| groups::all(v)).await?;
        let shards: Vec<Shard> = groups.into_iter().map(Shard::from).collect();
        json(StatusCode::OK, &serde_json::json!({ "shards": shards }))
    })
    .await
}

/// One of them.
pub async fn show(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Show = call.query()?;
        let found = call.read(&service, asked.consistency, |v| groups::by_name(v, &name)).await?;
        json(StatusCode::OK, &Shard::from(found.ok_or_else(missing)?))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    weight: u32,
}

/// Sets the weight. It decides on new tenants only: nobody is moved.
pub async fn change(State(service): State<Service>, Path(name): Path<String>, request: Request) -> Response {
    answer(request, async |call| {
        let asked: Change = call.body()?;
        let set = SetShardWeight { shard: name.clone(), weight: asked.weight };
        call.propose(&service, Op::SetShardWeight(set)).await?;
        let now = service.read(|v| groups::by_name(v, &name))?;
        json(StatusCode::OK, &Shard::from(now.ok_or_else(missing)?))
    })
    .await
}
