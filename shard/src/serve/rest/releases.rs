//! The release rules of a config.

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
        managing,
    },
    shard::Shard,
};

/// `GET .../configs/{id}/releases`
pub async fn show(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let id = asked.part("id")?;
    let demand = asked.demand(Level::Leader)?;
    asked.no_more_params()?;
    let (at, found) = managing::releases(&shard, &asked.call, id, demand).await?;
    Ok(answer::json_with_etag(&at, &found.etag, &answer::releases_shape(&found)))
}

/// `PUT .../configs/{id}/releases`: replaces the whole list.
pub async fn set(State(shard): State<Arc<Shard>>, asked: Asked, body: Body) -> Result<Response, Refused> {
    asked.no_more_params()?;
    let id = asked.part("id")?;
    let conditions = Conditions::read(&asked.headers)?;
    let whole = collect(&shard, &asked.call, &asked.headers, body, MAX_JSON).await?;
    let mut fields = Fields::read(&whole).await?;
    let rules = fields.rules()?;
    fields.finish()?;
    let made = managing::set_releases(&shard, &asked.call, id, &rules, conditions).await?;
    Ok(answer::written(&made, StatusCode::OK, None))
}
