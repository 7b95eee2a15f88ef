//! Changesets: several writes, all or nothing. Those of users, and parts of imports and promotions that this service has planned.

use std::sync::Arc;

use conflux_common::{
    error::ApiError,
    grant::Action,
    ids::ConfigId,
    release::{self, ReleaseRule},
};
use conflux_proto::{
    log::{self, Step, shard_command::Op, step},
    v1,
};

use super::{
    Place, Publication, Sent,
    checked::{Rechecks, settled},
    configs::{self, Change},
    publishing,
};
use crate::{
    machine::{limits::MAX_CHANGES, remembered::APPLY_CHANGESET},
    serve::{
        call::Call,
        conditions::Conditions,
        writing::{Part, Target, write_changeset},
    },
    shard::Shard,
};

/// Steps of one changeset.
pub const MAX_STEPS: usize = MAX_CHANGES;
/// Bytes of contents in one changeset.
pub const MAX_BYTES: usize = 4 << 20;

/// One write of a changeset.
#[derive(Debug, Clone)]
pub enum Planned {
    /// As the one-step PUT of a file.
    Put(Place, Sent),
    /// As publish.
    Publish(ConfigId, Publication),
    /// As rollback.
    Rollback(ConfigId, u64),
    /// As the PUT of the rules.
    Releases(ConfigId, Vec<ReleaseRule>),
    /// As the PATCH of a config.
    Update(ConfigId, Change),
    /// As the DELETE of a config.
    Delete(ConfigId),
}

impl Planned {
    /// The operation, checked; and of which config it is.
    async fn op(self, shard: &Arc<Shard>, call: &Call) -> Result<(Target, step::Op), ApiError> {
        Ok(match self {
            Planned::Put(place, sent) => {
                (Target::Named, step::Op::PutConfig(configs::put_op(shard, call, APPLY_CHANGESET, place, sent).await?))
            }
            Planned::Publish(id, asked) => {
                let target = Target::Id(id, asked.source.actions());
                (target, step::Op::Publish(publishing::publish_op(shard, call, APPLY_CHANGESET, id, asked).await?))
            }
            Planned::Rollback(id, version) => {
                let op = step::Op::Rollback(log::Rollback { config_id: id.0, version });
                (Target::Id(id, &[Action::Publish]), op)
            }
            Planned::Releases(id, rules) => {
                release::validate(&rules)?;
                let rules = rules.iter().map(conflux_proto::release::to_wire).collect();
                let op = step::Op::SetReleases(log::SetReleases { config_id: id.0, rules });
                (Target::Id(id, &[Action::Publish]), op)
            }
            Planned::Update(id, change) => {
                (Target::Id(id, &[Action::Write]), step::Op::UpdateConfig(configs::update_op(id, change).await?))
            }
            Planned::Delete(id) => {
                (Target::Id(id, &[Action::Delete]), step::Op::DeleteConfig(log::DeleteConfig { config_id: id.0 }))
            }
        })
    }
}

/// Applies all of them in one entry, under one revision, or none. Fields of errors begin with `changes[i]`.
pub async fn apply_changeset(
    shard: &Arc<Shard>,
    call: &Call,
    description: String,
    changes: Vec<(Planned, Conditions)>,
) -> Result<v1::ChangesetResponse, ApiError> {
    if changes.is_empty() || changes.len() > MAX_CHANGES {
        return Err(ApiError::invalid("changes", format!("1 to {MAX_CHANGES}, these are {}", changes.len())));
    }
    let mut rechecks = Rechecks::default();
    loop {
        let (parts, steps) = checked_steps(shard, call, changes.clone()).await?;
        let op = Op::ApplyChangeset(log::ApplyChangeset { description: description.clone(), steps });
        let outcome = write_changeset(shard, call, parts, op).await;
        if !rechecks.again(&outcome) {
            return settled(outcome);
        }
    }
}

async fn checked_steps(
    shard: &Arc<Shard>,
    call: &Call,
    changes: Vec<(Planned, Conditions)>,
) -> Result<(Vec<Part>, Vec<Step>), ApiError> {
    let (mut parts, mut steps) = (Vec::with_capacity(changes.len()), Vec::with_capacity(changes.len()));
    for (i, (planned, conditions)) in changes.into_iter().enumerate() {
        let (target, op) = planned.op(shard, call).await.map_err(|e| e.within(&format!("changes[{i}]")))?;
        parts.push(Part { target, conditions });
        steps.push(Step { if_absent: conditions.if_absent, op: Some(op), ..Default::default() });
    }
    Ok((parts, steps))
}

/// Applies steps that are authorized and checked. They carry no idempotency key: each demands its config as it was when it was
/// planned, so that a repetition has no second effect.
pub(super) async fn apply(
    shard: &Arc<Shard>,
    call: &Call,
    description: &str,
    steps: Vec<Step>,
) -> Result<v1::ChangesetResponse, ApiError> {
    let call = Call { idempotency: None, ..call.clone() };
    let op = Op::ApplyChangeset(log::ApplyChangeset { description: description.to_owned(), steps });
    write_changeset(shard, &call, Vec::new(), op).await
}
