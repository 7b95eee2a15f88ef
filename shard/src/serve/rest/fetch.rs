//! `/api/v1/fetch`: what applications read.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::Value;

use super::asked::Asked;
use crate::{
    serve::{
        admission::Refused,
        answer,
        conditions::{KnownEtags, Level},
        fetching::{self, FetchAllAsked, FetchAsked},
    },
    shard::Shard,
};

/// `GET /api/v1/fetch/config/{tenant}/{app}/{env}/{name}`
pub async fn one(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let what = FetchAsked {
        app: asked.part("app")?,
        env: asked.part("env")?,
        name: asked.part("name")?,
        labels: asked.labels()?,
        demand: asked.demand(Level::Stale)?,
        known: KnownEtags::read(&asked.headers),
    };
    asked.no_more_params()?;
    Ok(answer::fetched(fetching::fetch(&shard, &asked.call, what).await?))
}

/// `GET /api/v1/fetch/configs/{tenant}/{app}/{env}`
pub async fn all(State(shard): State<Arc<Shard>>, mut asked: Asked) -> Result<Response, Refused> {
    let what = FetchAllAsked {
        app: asked.part("app")?,
        env: asked.part("env")?,
        labels: asked.labels()?,
        demand: asked.demand(Level::Stale)?,
        cursor: asked.param("cursor"),
    };
    asked.no_more_params()?;
    let found = fetching::fetch_all(&shard, &asked.call, what).await?;
    let shape: Value = answer::fetched_all_shape(&found);
    Ok(answer::json(&found.stamp, &shape))
}
