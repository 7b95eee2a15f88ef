//! Configs: made, put, listed, deleted.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    grant::Action,
    ids::ConfigId,
};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;

use super::{
    PageAsked, Place, Sent,
    checked::{self, Checked, Rechecks, settled},
    content::check_schema,
    seen::visible,
};
use crate::{
    format,
    machine::remembered::PUT_CONFIG,
    query::{self, Filter, TenantRow},
    serve::{
        call::Call,
        conditions::{Conditions, Demand, Level},
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
    let mut rechecks = Rechecks::default();
    loop {
        let op = Op::PutConfig(put_op(shard, call, PUT_CONFIG, place.clone(), sent.clone()).await?);
        let outcome = write(shard, call, conditions, Target::Named, op).await;
        if !rechecks.again(&outcome) {
            return settled(outcome);
        }
    }
}

/// The same as an operation, checked against the schema of the config, if that is there.
pub(super) async fn put_op(
    shard: &Arc<Shard>,
    call: &Call,
    operation: &'static str,
    place: Place,
    sent: Sent,
) -> Result<log::PutConfig, ApiError> {
    place.require(call, &[Action::Write, Action::Publish])?;
    let schema = schema_of(shard, call, &place).await?;
    let Checked { format, sha256, seen } =
        checked::check(shard, call, operation, &sent, place.name.as_str(), &schema).await?;
    Ok(log::PutConfig {
        app: place.app.into(),
        env: place.env.into(),
        name: place.name.into(),
        format: format.name().to_owned(),
        content: sent.content,
        sha256,
        description: sent.description,
        media_type: String::new(),
        checked: Some(seen),
    })
}

/// The schema that a config has at the leader; empty where it has none, or is not there.
async fn schema_of(shard: &Arc<Shard>, call: &Call, place: &Place) -> Result<String, ApiError> {
    let place = place.clone();
    let from = move |view: &View<'_>, row: &TenantRow| match query::config_by_name(
        view,
        row,
        place.app.as_str(),
        place.env.as_str(),
        place.name.as_str(),
    ) {
        Ok(config) => Ok(config.schema),
        Err(e) if e.code == Code::NotFound => Ok(String::new()),
        Err(e) => Err(e),
    };
    Ok(read(shard, call, Demand::at(Level::Leader), Weight::Point, from).await?.1)
}

/// A config to be made.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Where.
    pub place: Place,
    /// Its format and description, and perhaps its first version.
    pub sent: Sent,
    /// Whether a content was sent.
    pub with_content: bool,
    /// For finding it.
    pub tags: Vec<String>,
    /// What every version must be that has no schema of its own; empty: none.
    pub schema: String,
    /// What of its old versions is kept.
    pub retention: Option<v1::Retention>,
}

/// Creates a config, with its first version where a content is sent. Nothing is released by it.
pub async fn create_config(
    shard: &Arc<Shard>,
    call: &Call,
    asked: Creation,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    let Creation { place, sent, with_content, tags, schema, retention } = asked;
    place.require(call, &[Action::Write])?;
    check_schema(&schema).await?;
    let (format, sha256) = match with_content {
        true => sent.check(place.name.as_str(), &schema).await?,
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
        schema,
        retention,
    });
    write(shard, call, conditions, Target::Named, op).await
}

/// What is said of a config: what is none stays, what is empty is cleared.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// For people.
    pub description: Option<String>,
    /// The whole list.
    pub tags: Option<Vec<String>>,
    /// Of all versions that have none of their own. What is there already is not looked at.
    pub schema: Option<String>,
    /// What of the old versions is kept.
    pub retention: Option<v1::Retention>,
}

/// Changes what is said of a config.
pub async fn update_config(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    change: Change,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    let op = Op::UpdateConfig(update_op(id, change).await?);
    write(shard, call, conditions, Target::Id(id, &[Action::Write]), op).await
}

/// The same as an operation.
pub(super) async fn update_op(id: ConfigId, change: Change) -> Result<log::UpdateConfig, ApiError> {
    check_schema(change.schema.as_deref().unwrap_or_default()).await?;
    Ok(log::UpdateConfig {
        config_id: id.0,
        description: change.description,
        set_tags: change.tags.is_some(),
        tags: change.tags.unwrap_or_default(),
        schema: change.schema,
        retention: change.retention,
    })
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
