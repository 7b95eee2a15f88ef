//! The versions of a config.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    asked::Asked,
    params::{Conditional, Demanded, Paged},
    shown::{Versions, WholeVersion, Written},
};
use crate::{
    serve::{
        admission::Refused,
        answer, body,
        conditions::{Conditions, Level},
        managing::{self, Sent},
    },
    shard::Shard,
};

/// The calls below `/api/v1/mgt/{tenant}`.
pub fn routes() -> OpenApiRouter<Arc<Shard>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show))
}

/// List a config's versions, newest first.
#[utoipa::path(
    get, path = "/configs/{id}/versions", tag = "versions", params(Paged, Demanded),
    responses((status = 200, description = "Without their contents.", body = Versions))
)]
async fn list(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let page = asked.page()?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::list_versions(&shard, &asked.call, id, page, demand).await?;
    Ok(answer::json(&at, &Versions::from(&found)))
}

/// A new version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// The content, as text.
    content: Option<String>,
    /// The same in base64; send one of them.
    content_base64: Option<String>,
    /// Else the config's.
    format: Option<String>,
    description: Option<String>,
    /// Holds for this version in the place of the config's.
    schema: Option<String>,
}

/// Add a version, without releasing it.
#[utoipa::path(
    post, path = "/configs/{id}/versions", tag = "versions", params(Conditional), request_body = NewVersion,
    responses((status = 201, description = "Added.", body = Written))
)]
async fn create(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let id = asked.part("id")?;
    let conditions = Conditions::read(&asked.headers)?;
    let (new, _room) = body::read::<NewVersion>(&shard, &asked.call, &asked.headers, body).await?;
    let sent = Sent {
        content: body::required_content("", new.content, new.content_base64)?,
        format: new.format.unwrap_or_default(),
        media_type: String::new(),
        description: new.description.unwrap_or_default(),
    };
    let schema = new.schema.unwrap_or_default();
    let made = managing::create_version(&shard, &asked.call, id, sent, schema, conditions).await?;
    Ok(answer::written(&made, StatusCode::CREATED, None))
}

/// Show a version with its content.
#[utoipa::path(
    get, path = "/configs/{id}/versions/{number}", tag = "versions", params(Demanded),
    responses((status = 200, description = "The version.", body = WholeVersion))
)]
async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let (id, number) = (asked.part("id")?, asked.number("number")?);
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::version(&shard, &asked.call, id, number, demand).await?;
    Ok(answer::json(&at, &WholeVersion::from(&found)))
}
