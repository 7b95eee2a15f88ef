//! What those ask who manage configuration. One function for each call; REST and gRPC are skins.

use std::sync::Arc;

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    grant::Action,
    ids::{AppName, ConfigId, ConfigName, EnvName},
    release::ReleaseRule,
};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;
use sha2::{Digest, Sha256};

use super::{
    call::Call,
    conditions::{Conditions, Demand},
    reading::{Stamp, Weight, read},
    writing::{Target, no_config, write},
};
use crate::{
    format::{self, Format, Limits},
    machine::limits::MAX_CONTENT_BYTES,
    query::{self, Filter, ShownVersion, TenantRow},
    shard::Shard,
};

/// Contents above this are checked off the runtime.
const CHECK_INLINE: usize = 64 << 10;

/// Where a config is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The application.
    pub app: AppName,
    /// The environment.
    pub env: EnvName,
    /// The config's name.
    pub name: ConfigName,
}

impl Place {
    /// Checks the three names.
    pub fn new(app: &str, env: &str, name: &str) -> Result<Self, ApiError> {
        Ok(Self { app: app.parse()?, env: env.parse()?, name: name.parse()? })
    }

    fn require(&self, call: &Call, actions: &[Action]) -> Result<(), ApiError> {
        call.require(actions, self.app.as_str(), self.env.as_str(), self.name.as_str())
    }
}

/// A content as it was sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// The bytes.
    pub content: Bytes,
    /// What the caller says that it is; empty: see `format::detect`.
    pub format: String,
    /// Of the request, where the content is its body.
    pub media_type: String,
    /// For people.
    pub description: String,
}

impl Sent {
    /// Finds the format, checks the syntax, and answers format and hash. Large contents are worked on off the runtime.
    async fn check(&self, config_name: &str) -> Result<(Format, Bytes), ApiError> {
        if self.content.len() > MAX_CONTENT_BYTES {
            return Err(content_too_large());
        }
        let format = format::detect(&self.format, &self.media_type, config_name, &self.content)?;
        let content = self.content.clone();
        let work = move || {
            format::check(format, &content, &Limits::default())?;
            Ok::<_, ApiError>(Bytes::from(Sha256::digest(&content).to_vec()))
        };
        let sha256 = if self.content.len() <= CHECK_INLINE {
            work()?
        } else {
            let task = tokio::task::spawn_blocking(work);
            task.await.map_err(|e| ApiError::new(Code::Internal, format!("the check failed: {e}")))??
        };
        Ok((format, sha256))
    }
}

/// 413, with the bound.
pub fn content_too_large() -> ApiError {
    ApiError::too_large(format!("a content has at most {MAX_CONTENT_BYTES} bytes (1 MiB)"))
}

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

/// Adds a version without releasing it. Its format is the config's where none is named.
pub async fn create_version(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    mut sent: Sent,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    if sent.content.len() > MAX_CONTENT_BYTES {
        return Err(content_too_large());
    }
    if sent.format.is_empty() {
        let leader = Demand::at(super::conditions::Level::Leader);
        sent.format = config(shard, call, id, leader).await?.1.format;
    }
    let (format, sha256) = sent.check("").await?;
    let op = Op::CreateVersion(log::CreateVersion {
        config_id: id.0,
        content: sent.content,
        sha256,
        description: sent.description,
        format: format.name().to_owned(),
        ..Default::default()
    });
    write(shard, call, conditions, Target::Id(id, &[Action::Write]), op).await
}

/// Replaces the release rules.
pub async fn set_releases(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    rules: &[ReleaseRule],
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    conflux_common::release::validate(rules)?;
    let rules = rules.iter().map(conflux_proto::release::to_wire).collect();
    let op = Op::SetReleases(log::SetReleases { config_id: id.0, rules });
    write(shard, call, conditions, Target::Id(id, &[Action::Publish]), op).await
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

/// The config's record where the caller may see it: nobody else learns that it exists.
fn visible(
    view: &View<'_>,
    row: &TenantRow,
    call: &Call,
    id: ConfigId,
) -> Result<conflux_proto::store::Config, ApiError> {
    let found = query::get_config(view, row, id).map_err(|e| match e.code {
        Code::NotFound => no_config(id),
        _ => e,
    })?;
    if call.sees(&found.app, &found.env, &found.name) { Ok(found) } else { Err(no_config(id)) }
}

/// The same, and the caller may read what is in it.
fn readable(
    view: &View<'_>,
    row: &TenantRow,
    call: &Call,
    id: ConfigId,
) -> Result<conflux_proto::store::Config, ApiError> {
    let found = visible(view, row, call, id)?;
    call.require(&[Action::Read], &found.app, &found.env, &found.name)?;
    Ok(found)
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

/// Which page of a listing.
#[derive(Debug, Clone, Default)]
pub struct PageAsked {
    /// 0: the default.
    pub limit: u32,
    /// Of the page before; empty: the first.
    pub cursor: String,
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

/// One version with its content.
pub async fn version(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    number: u64,
    demand: Demand,
) -> Result<(Stamp, v1::Version), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        readable(view, row, &caller, id)?;
        query::get_version(view, row, id, number, ShownVersion::Whole)
    };
    read(shard, call, demand, Weight::Point, from).await
}

/// The versions of a config, newest first, without their contents.
pub async fn list_versions(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    page: PageAsked,
    demand: Demand,
) -> Result<(Stamp, v1::ListVersionsResponse), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        readable(view, row, &caller, id)?;
        let (versions, next_cursor) = query::list_versions(view, row, id, page.limit, &page.cursor)?;
        Ok(v1::ListVersionsResponse { versions, next_cursor })
    };
    read(shard, call, demand, Weight::Scan, from).await
}

/// The release rules of a config.
pub async fn releases(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    demand: Demand,
) -> Result<(Stamp, v1::Releases), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        readable(view, row, &caller, id)?;
        query::releases(view, row, id)
    };
    read(shard, call, demand, Weight::Point, from).await
}
