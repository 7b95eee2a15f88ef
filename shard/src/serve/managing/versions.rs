//! The versions of a config.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code},
    grant::Action,
    ids::{ConfigId, Incarnation},
};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;

use super::{
    PageAsked, Sent,
    checked::{self, Checked, Rechecks, settled},
    content::{check_schema, content_too_large, schema_for},
    seen::{readable, visible},
};
use crate::{
    machine::{limits::MAX_CONTENT_BYTES, remembered::CREATE_VERSION},
    query::{self, ShownVersion, TenantRow},
    retention::archive::Sought,
    serve::{
        call::Call,
        conditions::{Conditions, Demand, Level},
        reading::{Stamp, Weight, read},
        writing::{Target, write},
    },
    shard::Shard,
};

/// Adds a version without releasing it. Its format is the config's where none is named, and so is its schema (empty).
pub async fn create_version(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    sent: Sent,
    schema: String,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    if sent.content.len() > MAX_CONTENT_BYTES {
        return Err(content_too_large());
    }
    check_schema(&schema).await?;
    let mut rechecks = Rechecks::default();
    loop {
        let op = Op::CreateVersion(version_op(shard, call, id, &sent, &schema).await?);
        let outcome = write(shard, call, conditions, Target::Id(id, &[Action::Write]), op).await;
        if !rechecks.again(&outcome) {
            return settled(outcome);
        }
    }
}

async fn version_op(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    sent: &Sent,
    schema: &str,
) -> Result<log::CreateVersion, ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| visible(view, row, &caller, id);
    let config = read(shard, call, Demand::at(Level::Leader), Weight::Point, from).await?.1;
    let (sent, counts) = (sent.of(&config), schema_for(&config, schema));
    let Checked { format, sha256, seen } =
        checked::check(shard, call, CREATE_VERSION, &sent, &config.name, counts).await?;
    Ok(log::CreateVersion {
        config_id: id.0,
        content: sent.content,
        sha256,
        description: sent.description,
        format: format.name().to_owned(),
        schema: schema.to_owned(),
        checked: Some(seen),
    })
}

/// One version with its content: from the archive, where retention has given it up and there is one.
pub async fn version(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    number: u64,
    demand: Demand,
) -> Result<(Stamp, v1::Version), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        let config = readable(view, row, &caller, id)?;
        match query::get_version(view, row, id, number, ShownVersion::Whole) {
            Err(e) if e.code == Code::NotFound && (1..=config.latest_version).contains(&number) => {
                let sought = Sought {
                    tenant: row.name.clone(),
                    tenant_id: row.id,
                    incarnation: Incarnation(row.incarnation),
                    config: id,
                    version: number,
                };
                Ok(Err((sought, e)))
            }
            found => found.map(Ok),
        }
    };
    let (at, found) = read(shard, call, demand, Weight::Point, from).await?;
    match found {
        Ok(version) => Ok((at, version)),
        Err((sought, not_found)) => Ok((at, archived(shard, call, &sought).await?.ok_or(not_found)?)),
    }
}

async fn archived(shard: &Arc<Shard>, call: &Call, sought: &Sought) -> Result<Option<v1::Version>, ApiError> {
    let Some(archive) = shard.archive.get() else { return Ok(None) };
    let room = shard.room_for(MAX_CONTENT_BYTES)?;
    let late = || ApiError::new(Code::DeadlineExceeded, "the archive did not answer in time: try again");
    let found = tokio::time::timeout(call.left()?, archive.find(sought)).await.map_err(|_| late())?;
    drop(room);
    let found = found.map_err(|error| {
        tracing::warn!(%error, "an archived version cannot be read");
        ApiError::new(Code::Unavailable, "the archive cannot be read now: its operator finds the reason in the log")
    })?;
    let shown = |(row, content)| v1::Version { content, archived: true, ..query::shown_version(sought.config, row) };
    Ok(found.map(shown))
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
