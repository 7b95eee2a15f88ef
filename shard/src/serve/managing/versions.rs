//! The versions of a config.

use std::sync::Arc;

use conflux_common::{error::ApiError, grant::Action, ids::ConfigId};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;

use super::{PageAsked, Sent, config, content::content_too_large, seen::readable};
use crate::{
    machine::limits::MAX_CONTENT_BYTES,
    query::{self, ShownVersion, TenantRow},
    serve::{
        call::Call,
        conditions::{Conditions, Demand, Level},
        reading::{Stamp, Weight, read},
        writing::{Target, write},
    },
    shard::Shard,
};

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
        let leader = Demand::at(Level::Leader);
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
