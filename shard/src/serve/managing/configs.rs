//! Configs: made, put, listed, deleted.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::{error::ApiError, grant::Action, ids::ConfigId};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;

use super::{PageAsked, Place, Sent, seen::visible};
use crate::{
    format,
    query::{self, Filter, TenantRow},
    serve::{
        call::Call,
        conditions::{Conditions, Demand},
        reading::{Stamp, Weight, read},
        writing::{Target, write},
    },
    shard::Shard,
};

/// Creates the config or adds a version, and releases it as default: one entry.
pub async fn put_config(
    shard: &Arc<Shard>,
    call: &Call,
    place: Place,
    sent: Sent,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    place.require(call, &[Action::Write, Action::Publish])?;
    let (format, sha256) = sent.check(place.name.as_str()).await?;
    let op = Op::PutConfig(log::PutConfig {
        app: place.app.into(),
        env: place.env.into(),
        name: place.name.into(),
        format: format.name().to_owned(),
        content: sent.content,
        sha256,
        description: sent.description,
        media_type: String::new(),
    });
    write(shard, call, conditions, Target::Named, op).await
}

/// Creates a config, with its first version where a content is sent. Nothing is released by it.
pub async fn create_config(
    shard: &Arc<Shard>,
    call: &Call,
    place: Place,
    sent: Sent,
    with_content: bool,
    tags: Vec<String>,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    place.require(call, &[Action::Write])?;
    let (format, sha256) = match with_content {
        true => sent.check(place.name.as_str()).await?,
        false => (format::detect(&sent.format, "", place.name.as_str(), b"")?, Bytes::new()),
    };
    let op = Op::CreateConfig(log::CreateConfig {
        app: place.app.into(),
        env: place.env.into(),
        name: place.name.into(),
        format: format.name().to_owned(),
        content: sent.content,
        sha256,
        description: sent.description,
        tags,
        ..Default::default()
    });
    write(shard, call, conditions, Target::Named, op).await
}

/// Deletes a config with all its versions.
pub async fn delete_config(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    let op = Op::DeleteConfig(log::DeleteConfig { config_id: id.0 });
    write(shard, call, conditions, Target::Id(id, &[Action::Delete]), op).await
}

/// One config's record.
pub async fn config(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    demand: Demand,
) -> Result<(Stamp, v1::Config), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| Ok(query::shown_config(row, visible(view, row, &caller, id)?));
    read(shard, call, demand, Weight::Point, from).await
}

/// The configs that the caller may list.
pub async fn list_configs(
    shard: &Arc<Shard>,
    call: &Call,
    filter: Filter,
    page: PageAsked,
    demand: Demand,
) -> Result<(Stamp, v1::ListConfigsResponse), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        let listed = |app: &str, env: &str, name: &str| caller.may(Action::List, app, env, name);
        let (configs, next_cursor) = query::list(view, row, &filter, page.limit, &page.cursor, &listed)?;
        Ok(v1::ListConfigsResponse { configs, next_cursor })
    };
    read(shard, call, demand, Weight::Scan, from).await
}
