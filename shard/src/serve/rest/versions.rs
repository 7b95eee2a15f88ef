//! The versions of a config.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use http::StatusCode;

use super::asked::Asked;
use crate::{
    serve::{
        admission::Refused,
        answer,
        body::{Fields, MAX_JSON, collect},
        conditions::{Conditions, Level},
        managing::{self, Sent},
    },
    shard::Shard,
};

/// `GET .../configs/{id}/versions`
pub async fn list(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let page = asked.page()?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::list_versions(&shard, &asked.call, id, page, demand).await?;
    Ok(answer::json(&at, &answer::versions_shape(&found)))
}

/// `POST .../configs/{id}/versions`
pub async fn create(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let id = asked.part("id")?;
    let conditions = Conditions::read(&asked.headers)?;
    let whole = collect(&shard, &asked.call, &asked.headers, body, MAX_JSON).await?;
    let mut fields = Fields::read(&whole).await?;
    let sent = Sent {
        content: fields.content()?,
        format: fields.text("format")?.unwrap_or_default(),
        media_type: String::new(),
        description: fields.text("description")?.unwrap_or_default(),
    };
    fields.finish()?;
    let made = managing::create_version(&shard, &asked.call, id, sent, conditions).await?;
    Ok(answer::written(&made, StatusCode::CREATED, None))
}

/// `GET .../configs/{id}/versions/{number}`
pub async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let (id, number) = (asked.part("id")?, asked.number("number")?);
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::version(&shard, &asked.call, id, number, demand).await?;
    Ok(answer::json(&at, &answer::version_shape(&found, true)))
}
