//! What applications ask: the content that is released to them. One function for each call; REST and gRPC are skins.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    fetch::KnownEtags,
    grant::Action,
    ids::{AppName, ConfigName, EnvName},
    labels::Labels,
};
use conflux_raft::View;

use super::{
    call::Call,
    conditions::Demand,
    reading::{Stamp, Weight, read},
};
use crate::{
    query::{self, Fetched, Filter, TenantRow},
    shard::Shard,
};

/// Bytes of contents in one answer of [`fetch_all`]. One content always fits.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct FetchAsked {
    /// The application.
    pub app: AppName,
    /// The environment.
    pub env: EnvName,
    /// The config.
    pub name: ConfigName,
    /// What the client carries.
    pub labels: Labels,
    /// How current the answer must be.
    pub demand: Demand,
    /// What the client has already.
    pub known: KnownEtags,
}

/// A content, or that the client has it already.
#[derive(Debug, Clone)]
pub struct FetchAnswer {
    /// Which state it reflects.
    pub stamp: Stamp,
    /// What is released; without its content where the client has it.
    pub fetched: Fetched,
    /// The client has it: `fetched.content` is empty.
    pub not_modified: bool,
}

/// The content released to a client with these labels.
pub async fn fetch(shard: &Arc<Shard>, call: &Call, asked: FetchAsked) -> Result<FetchAnswer, ApiError> {
    let (app, env, name) = (asked.app.as_str(), asked.env.as_str(), asked.name.as_str());
    let may_read = call.may(Action::Read, app, env, name);
    let FetchAsked { labels, known, demand, app, env, name } = asked.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        if !may_read {
            // Exactly what a config that is not there answers.
            let text = format!("config {app}/{env}/{name} does not exist");
            return Err(ApiError::new(Code::NotFound, text));
        }
        let resolved = query::resolve(view, row, app.as_str(), env.as_str(), name.as_str(), &labels)?;
        if known.contains(&resolved.etag()) {
            return Ok((without_content(&resolved), true));
        }
        Ok((resolved.fetched(view, row)?, false))
    };
    let (stamp, (fetched, not_modified)) = read(shard, call, demand, Weight::Point, from).await?;
    Ok(FetchAnswer { stamp, fetched, not_modified })
}

fn without_content(resolved: &query::Resolved) -> Fetched {
    Fetched {
        config_id: conflux_common::ids::ConfigId(resolved.config.id),
        version: resolved.version.number,
        content: Bytes::new(),
        format: resolved.version.format.clone(),
        media_type: resolved.media_type(),
        etag: resolved.etag(),
        hash: resolved.hash(),
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct FetchAllAsked {
    /// The application.
    pub app: AppName,
    /// The environment.
    pub env: EnvName,
    /// What the client carries.
    pub labels: Labels,
    /// How current the answer must be.
    pub demand: Demand,
    /// Of the page before.
    pub cursor: String,
}

/// The contents of an environment, by name.
#[derive(Debug, Clone)]
pub struct FetchAllAnswer {
    /// Which state this page reflects.
    pub stamp: Stamp,
    /// Names and contents.
    pub configs: Vec<(String, Fetched)>,
    /// For the next page; empty: this was the last.
    pub next_cursor: String,
}

/// What is released to a client with these labels in a whole environment, as far as it may read.
pub async fn fetch_all(shard: &Arc<Shard>, call: &Call, asked: FetchAllAsked) -> Result<FetchAllAnswer, ApiError> {
    let demand = asked.demand;
    let principal = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| page(view, row, &principal, &asked);
    let (stamp, (configs, next_cursor)) = read(shard, call, demand, Weight::Scan, from).await?;
    Ok(FetchAllAnswer { stamp, configs, next_cursor })
}

type Named = (String, Fetched);

fn page(
    view: &View<'_>,
    row: &TenantRow,
    call: &Call,
    asked: &FetchAllAsked,
) -> Result<(Vec<Named>, String), ApiError> {
    let (app, env) = (asked.app.as_str(), asked.env.as_str());
    let filter = Filter { app: app.to_owned(), env: env.to_owned(), ..Default::default() };
    let readable = |app: &str, env: &str, name: &str| call.may(Action::Read, app, env, name);
    let max = query::MAX_PAGE as u32;
    let (listed, mut next) = query::list(view, row, &filter, max, &asked.cursor, &readable)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for (i, config) in listed.iter().enumerate() {
        let resolved = match query::resolve(view, row, app, env, &config.name, &asked.labels) {
            Ok(resolved) => resolved,
            // Nothing is released to these labels.
            Err(e) if e.code == Code::NotFound => continue,
            Err(e) => return Err(e),
        };
        bytes += resolved.version.size as usize;
        if bytes > MAX_PAGE_BYTES && !found.is_empty() {
            // The cursor behind the configs before this one.
            (_, next) = query::list(view, row, &filter, i as u32, &asked.cursor, &readable)?;
            break;
        }
        found.push((config.name.clone(), resolved.fetched(view, row)?));
    }
    debug_assert_eq!(found.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), found.len());
    Ok((found, next))
}
