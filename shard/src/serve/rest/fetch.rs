//! `/api/v1/fetch`: what applications read.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use conflux_common::fetch::KnownEtags;

use super::{
    asked::Asked,
    params::{Demanded, Known},
    shown::FetchedAll,
};
use crate::{
    serve::{
        admission::Refused,
        answer,
        conditions::Level,
        fetching::{self, FetchAllAsked, FetchAsked},
    },
    shard::Shard,
};

/// Fetch what is released to a client.
///
/// The content as it was put, with its media type. The client's labels are headers `X-Client-Label-<Name>: <value>`; the
/// release rules decide by them which version it is.
#[utoipa::path(
    get, path = "/api/v1/fetch/config/{tenant}/{app}/{env}/{name}", tag = "fetch", params(Demanded, Known),
    responses(
        (status = 200, description = "The content.", body = [u8], content_type = "*/*", headers(
            ("etag" = String, description = "Of the content, for `If-None-Match`."),
            ("x-config-version" = u64, description = "The version's number."),
            ("x-config-hash" = String, description = "`sha256:` and 64 hexadecimal digits."))),
        (status = 304, description = "The client has it already.")
    )
)]
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

/// Fetch everything that is released to a client in an environment.
///
/// Labels as in the fetch of one config. A page holds at most 8 MiB of contents.
#[utoipa::path(
    get, path = "/api/v1/fetch/configs/{tenant}/{app}/{env}", tag = "fetch",
    params(("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."), Demanded),
    responses((status = 200, description = "A page, by name.", body = FetchedAll))
)]
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
    Ok(answer::json(&found.stamp, &FetchedAll::from(&found)))
}
