//! ApplyChangeset: several writes, all or nothing, under one revision.

use std::collections::BTreeMap;

use conflux_common::{
    error::{ApiError, Code},
    planted,
};
use conflux_proto::{
    log::{self, Step, step::Op},
    v1,
};

use super::{
    change::Change, create_config::create_config, create_version::create_version, delete_config::delete_config, input,
    limits, precondition::Condition, publish::publish, put_config::put_config, rollback::rollback,
    set_releases::set_releases, stop::Stop, update_config::update_config,
};

/// Applies the steps in their order. Fields of errors begin with `changes[i]`; whoever called takes back what was written.
pub(super) fn apply_changeset(
    change: &mut Change<'_, '_>,
    op: &log::ApplyChangeset,
) -> Result<v1::ChangesetResponse, Stop> {
    input::description(&op.description)?;
    let max = limits::MAX_CHANGES;
    if op.steps.is_empty() || op.steps.len() > max {
        return Err(ApiError::invalid("changes", format!("1 to {max}, these are {}", op.steps.len())).into());
    }
    each_config_once(change, &op.steps)?;
    let mut results = Vec::with_capacity(op.steps.len());
    for (i, step) in op.steps.iter().enumerate() {
        if i > 0 && i + 1 == op.steps.len() && planted::has("half_changeset") {
            results.extend(results.first().cloned());
            continue;
        }
        change.condition = Condition { if_match: step.if_match, if_absent: step.if_absent };
        results.push(perform(change, step).map_err(|stop| stop.within(&format!("changes[{i}]")))?);
    }
    Ok(v1::ChangesetResponse { revision: change.present_mark(), epoch: change.tenant.epoch, results })
}

fn perform(change: &mut Change<'_, '_>, step: &Step) -> Result<v1::WriteResponse, Stop> {
    match &step.op {
        Some(Op::PutConfig(op)) => put_config(change, op),
        Some(Op::CreateConfig(op)) => create_config(change, op),
        Some(Op::CreateVersion(op)) => create_version(change, op),
        Some(Op::SetReleases(op)) => set_releases(change, op),
        Some(Op::DeleteConfig(op)) => delete_config(change, op),
        Some(Op::UpdateConfig(op)) => update_config(change, op),
        Some(Op::Publish(op)) => publish(change, op),
        Some(Op::Rollback(op)) => rollback(change, op),
        None => Err(unknown().into()),
    }
}

fn unknown() -> ApiError {
    ApiError::new(Code::Unimplemented, "a change of a kind that this version does not know")
}

type Place = [String; 3];

/// Refuses a config that two steps touch: which of its conditions and answers would be meant is a guess.
fn each_config_once(change: &Change<'_, '_>, steps: &[Step]) -> Result<(), Stop> {
    let mut seen: BTreeMap<Place, usize> = BTreeMap::new();
    for (i, step) in steps.iter().enumerate() {
        let at = place(change, step).map_err(|stop| stop.within(&format!("changes[{i}]")))?;
        if let Some(first) = seen.insert(at.clone(), i) {
            let why = format!("changes[{first}] is of the same config {}: one change for a config", at.join("/"));
            return Err(ApiError::invalid(format!("changes[{i}]"), why).into());
        }
    }
    Ok(())
}

/// Of which config a step is, by its name: an id leads to it before anything is changed.
fn place(change: &Change<'_, '_>, step: &Step) -> Result<Place, Stop> {
    let id = match &step.op {
        Some(Op::PutConfig(op)) => return Ok([op.app.clone(), op.env.clone(), op.name.clone()]),
        Some(Op::CreateConfig(op)) => return Ok([op.app.clone(), op.env.clone(), op.name.clone()]),
        Some(Op::CreateVersion(op)) => op.config_id,
        Some(Op::SetReleases(op)) => op.config_id,
        Some(Op::DeleteConfig(op)) => op.config_id,
        Some(Op::UpdateConfig(op)) => op.config_id,
        Some(Op::Publish(op)) => op.config_id,
        Some(Op::Rollback(op)) => op.config_id,
        None => return Err(unknown().into()),
    };
    let config = change.config(id)?;
    Ok([config.app, config.env, config.name])
}
