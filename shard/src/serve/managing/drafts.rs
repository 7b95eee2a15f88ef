//! Drafts: contents that wait to become versions.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code, FieldProblem},
    grant::Action,
    ids::ConfigId,
};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;
use sha2::{Digest, Sha256};

use super::{
    Sent,
    content::{check_schema, schema_for},
    publishing::look_up,
    seen::readable,
};
use crate::{
    query::{self, TenantRow},
    serve::{
        call::Call,
        conditions::{Conditions, Demand},
        reading::{Stamp, Weight, read},
        writing::{Target, write},
    },
    shard::Shard,
};

/// A draft that was saved, and what is wrong with it: it could not be published so.
#[derive(Debug, Clone)]
pub struct SavedDraft {
    /// What was written.
    pub made: v1::WriteResponse,
    /// By field, as a publish would refuse it.
    pub warnings: Vec<FieldProblem>,
}

/// Saves a new draft (number 0), or changes one.
pub async fn save_draft(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    number: u64,
    mut sent: Sent,
    schema: String,
    conditions: Conditions,
) -> Result<SavedDraft, ApiError> {
    let config = look_up(shard, call, id, &[Action::Write]).await?;
    if sent.format.is_empty() {
        sent.format = config.format.clone();
    }
    let format = sent.detect(&config.name)?;
    check_schema(&schema).await?;
    let warnings = match sent.check(&config.name, schema_for(&config, &schema)).await {
        Ok(_) => Vec::new(),
        Err(e) if e.code == Code::InvalidArgument => e.details,
        Err(e) => return Err(e),
    };
    let op = Op::SaveDraft(log::SaveDraft {
        config_id: id.0,
        draft: number,
        sha256: Sha256::digest(&sent.content).to_vec().into(),
        content: sent.content,
        format: format.name().to_owned(),
        description: sent.description,
        schema,
    });
    let made = write(shard, call, conditions, Target::Id(id, &[Action::Write]), op).await?;
    Ok(SavedDraft { made, warnings })
}

/// Drops a draft.
pub async fn drop_draft(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    number: u64,
    conditions: Conditions,
) -> Result<v1::WriteResponse, ApiError> {
    let op = Op::DropDraft(log::DropDraft { config_id: id.0, draft: number });
    write(shard, call, conditions, Target::Id(id, &[Action::Write]), op).await
}

/// One draft with its content.
pub async fn draft(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    number: u64,
    demand: Demand,
) -> Result<(Stamp, query::Draft), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        readable(view, row, &caller, id)?;
        query::draft(view, row, id, number)
    };
    read(shard, call, demand, Weight::Point, from).await
}

/// The drafts of a config, oldest first, without their contents.
pub async fn drafts(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    demand: Demand,
) -> Result<(Stamp, Vec<query::Draft>), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| {
        readable(view, row, &caller, id)?;
        query::list_drafts(view, row, id)
    };
    read(shard, call, demand, Weight::Point, from).await
}
