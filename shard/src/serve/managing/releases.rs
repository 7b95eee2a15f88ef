//! The release rules of a config.

use std::sync::Arc;

use conflux_common::{error::ApiError, grant::Action, ids::ConfigId, labels::Labels, release::ReleaseRule};
use conflux_proto::{
    log::{self, shard_command::Op},
    v1,
};
use conflux_raft::View;

use super::seen::readable;
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

/// Which version a client with these labels is served, by which rule, and why not by the others.
pub async fn resolve(
    shard: &Arc<Shard>,
    call: &Call,
    id: ConfigId,
    labels: Labels,
    demand: Demand,
) -> Result<(Stamp, v1::ResolveResponse), ApiError> {
    let caller = call.clone();
    let from = move |view: &View<'_>, row: &TenantRow| query::explain(&readable(view, row, &caller, id)?, &labels);
    read(shard, call, demand, Weight::Point, from).await
}
