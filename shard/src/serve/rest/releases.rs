//! The release rules of a config.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use conflux_common::release::ReleaseRule;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Conditional, Demanded},
    shown::{Releases, Written},
};
use crate::{
    serve::{
        admission::Refused,
        answer, body,
        conditions::{Conditions, Level},
        managing,
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(show, set))
}

/// Show a config's release rules: who is served which version.
#[utoipa::path(
    get, path = "/configs/{id}/releases", tag = "releases", params(Demanded),
    responses((status = 200, description = "The rules.", body = Releases,
        headers(("etag" = String, description = "For `If-Match`."))))
)]
async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::releases(&shard, &asked.call, id, demand).await?;
    Ok(answer::json_with_etag(&at, &found.etag, &Releases::from(&found)))
}

/// The whole list of rules.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReleases {
    #[schema(max_items = 100)]
    rules: Vec<ReleaseRule>,
}

/// Replace a config's release rules.
#[utoipa::path(
    put, path = "/configs/{id}/releases", tag = "releases", params(Conditional), request_body = NewReleases,
    responses((status = 200, description = "These rules hold now.", body = Written))
)]
async fn set(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let id = asked.part("id")?;
    let conditions = Conditions::read(&asked.headers)?;
    let (new, _room) = body::read::<NewReleases>(&shard, &asked.call, &asked.headers, body).await?;
    let made = managing::set_releases(&shard, &asked.call, id, &new.rules, conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}
