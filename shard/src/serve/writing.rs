//! Writes: who may, under which condition and key, then one entry of the log.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code, Hint},
    grant::Action,
    ids::{ConfigId, Epoch, Incarnation},
};
use conflux_proto::{
    context::IdempotencyKey,
    log::{
        self, CreateVersion, Idempotency, Publish, PutConfig, ShardCommand, shard_answer, shard_command::Op,
        step::Op as StepOp,
    },
    quotas::effective,
    v1::{ChangesetResponse, WriteResponse},
};
use conflux_raft::View;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    call::Call,
    conditions::{Conditions, Level},
    reading::owned,
};
use crate::{
    machine::{content_quota, limits, remembered},
    ownership::not_here,
    propose::propose,
    query::{self, TenantRow},
    shard::Shard,
};

/// Of which config a write is, and what one must be granted for it.
#[derive(Debug, Clone)]
pub enum Target {
    /// One that the caller named; already authorized.
    Named,
    /// One by its id: authorized by the names in its record.
    Id(ConfigId, &'static [Action]),
}

/// One write, or a step of a changeset.
#[derive(Debug, Clone)]
pub struct Part {
    /// Of which config it is.
    pub target: Target,
    /// What it demands of it.
    pub conditions: Conditions,
}

/// Proposes the write and answers what it made. `op` is complete and checked.
pub async fn write(
    shard: &Arc<Shard>,
    call: &Call,
    conditions: Conditions,
    target: Target,
    op: Op,
) -> Result<WriteResponse, ApiError> {
    match write_parts(shard, call, vec![Part { target, conditions }], op).await? {
        shard_answer::Result::Write(answer) => Ok(answer),
        _ => Err(something_else()),
    }
}

/// The same for a changeset with a part for each of its steps; or with no parts, where every step is authorized and says itself which
/// revision it demands.
pub async fn write_changeset(
    shard: &Arc<Shard>,
    call: &Call,
    parts: Vec<Part>,
    op: Op,
) -> Result<ChangesetResponse, ApiError> {
    match write_parts(shard, call, parts, op).await? {
        shard_answer::Result::Changeset(answer) => Ok(answer),
        _ => Err(something_else()),
    }
}

fn something_else() -> ApiError {
    ApiError::new(Code::Internal, "apply answered something else").outcome_unknown()
}

async fn write_parts(
    shard: &Arc<Shard>,
    call: &Call,
    parts: Vec<Part>,
    op: Op,
) -> Result<shard_answer::Result, ApiError> {
    let mut command = ShardCommand {
        tenant_id: call.tenant.0,
        epoch: call.epoch.0,
        principal: call.principal.name.clone(),
        request_id: call.request_id.clone(),
        trace_id: call.trace_id.clone(),
        idempotency: call.idempotency.as_ref().map(|key| idempotency(key, &parts, &op)).transpose()?,
        if_match: 0,
        if_absent: matches!(&parts[..], [only] if only.conditions.if_absent),
        op: Some(op),
    };
    let mut looked_up = false;
    loop {
        shard.node.check_leader()?;
        let outcome = match prepare(shard, call, &parts, &command).await? {
            Prepared::Unowned => Err(not_here(Epoch(0))),
            Prepared::Known(marks) => {
                demand(&mut command, &marks);
                let outcome = propose(&shard.node, &command, call.left()?).await;
                outcome.map_err(|e| unmask(e, &marks, &parts))
            }
        };
        match outcome {
            Ok(answer) => return Ok(answer),
            // The shard may have missed a tenant or a newer epoch: nothing was done, so that it can be repeated.
            Err(ApiError { hint: Some(Hint::WrongEpoch(own)), .. }) if own < call.epoch.0 && !looked_up => {
                looked_up = true;
                shard.ownership.look_up(call.tenant, call.epoch, call.until).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What one part demands of its config's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// This one; 0: any.
    Revision(u64),
    /// There is no such config. Perhaps it was deleted by this very call, the first time: then its answer is remembered under the
    /// key. Should the id come to be in this moment, nobody has checked the rights to it: a revision that no config has keeps
    /// the command from touching it.
    Absent(ConfigId),
}

impl Mark {
    fn revision(self) -> u64 {
        match self {
            Mark::Revision(revision) => revision,
            Mark::Absent(_) => u64::MAX,
        }
    }
}

/// Writes the demands into the command: those of a changeset into its steps.
fn demand(command: &mut ShardCommand, marks: &[Mark]) {
    match &mut command.op {
        Some(Op::ApplyChangeset(op)) => {
            for (step, mark) in op.steps.iter_mut().zip(marks) {
                step.if_match = mark.revision();
            }
        }
        _ => command.if_match = marks.first().map_or(0, |mark| mark.revision()),
    }
}

/// A failed demand that is this service's own means that the config is not there.
fn unmask(error: ApiError, marks: &[Mark], parts: &[Part]) -> ApiError {
    if error.code != Code::FailedPrecondition {
        return error;
    }
    for (i, (mark, part)) in marks.iter().zip(parts).enumerate() {
        if let (Mark::Absent(id), None) = (mark, part.conditions.if_match) {
            return of_part(parts, i, no_config(*id));
        }
    }
    error
}

/// The error of a part: of a changeset's step it says which.
fn of_part(parts: &[Part], i: usize, error: ApiError) -> ApiError {
    if parts.len() == 1 { error } else { error.within(&format!("changes[{i}]")) }
}

/// What the leader's state says of a write before it is proposed.
enum Prepared {
    /// The tenant is not known here under this epoch.
    Unowned,
    /// The caller may do this, as far as what it names is there.
    Known(Vec<Mark>),
}

/// Checks ownership, rights and conditions against the leader's state.
async fn prepare(
    shard: &Arc<Shard>,
    call: &Call,
    parts: &[Part],
    command: &ShardCommand,
) -> Result<Prepared, ApiError> {
    let absent = |marks: &[Mark]| marks.iter().position(|mark| matches!(mark, Mark::Absent(_)));
    let look = || shard.node.read(|view| check(view, call, parts, command));
    match look()?? {
        // A leader may be behind what earlier leaders committed: only after a barrier is "not there" the truth.
        Prepared::Known(marks) if absent(&marks).is_some() => {}
        other => return Ok(other),
    }
    shard.node.read_barrier(call.left()?).await?;
    match look()?? {
        Prepared::Known(marks) if call.idempotency.is_none() => match absent(&marks).map(|i| (i, marks[i])) {
            // Only asked further where a key may remember that it was there.
            Some((i, Mark::Absent(id))) => Err(of_part(parts, i, no_config(id))),
            _ => Ok(Prepared::Known(marks)),
        },
        other => Ok(other),
    }
}

fn check(view: &View<'_>, call: &Call, parts: &[Part], command: &ShardCommand) -> Result<Prepared, ApiError> {
    let Some(row) = owned(view, call, Level::Leader)? else { return Ok(Prepared::Unowned) };
    check_size(view, &row, command)?;
    let mark = |(i, part): (usize, &Part)| {
        let mark = || {
            let if_match = part.conditions.revision_within(Incarnation(row.incarnation))?;
            match &part.target {
                Target::Id(id, _) if !authorized(view, call, &row, &part.target)? => Ok(Mark::Absent(*id)),
                Target::Id(..) | Target::Named => Ok(Mark::Revision(if_match)),
            }
        };
        mark().map_err(|e| of_part(parts, i, e))
    };
    Ok(Prepared::Known(parts.iter().enumerate().map(mark).collect::<Result<_, ApiError>>()?))
}

/// Refuses a content beyond the tenant's quota before it goes into the log. One whose answer may be remembered goes on: apply
/// decides, and has the answer.
fn check_size(view: &View<'_>, row: &TenantRow, command: &ShardCommand) -> Result<(), ApiError> {
    let of_step = |step: &log::Step| match &step.op {
        Some(StepOp::PutConfig(op)) => op.content.len(),
        Some(StepOp::CreateConfig(op)) => op.content.len(),
        Some(StepOp::CreateVersion(op)) => op.content.len(),
        Some(StepOp::Publish(op)) => op.content.len(),
        _ => 0,
    };
    let size = match &command.op {
        Some(Op::PutConfig(op)) => op.content.len(),
        Some(Op::CreateConfig(op)) => op.content.len(),
        Some(Op::CreateVersion(op)) => op.content.len(),
        Some(Op::SaveDraft(op)) => op.content.len(),
        Some(Op::Publish(op)) => op.content.len(),
        Some(Op::ApplyChangeset(op)) => op.steps.iter().map(of_step).max().unwrap_or(0),
        _ => 0,
    };
    let max = effective(row.quotas.as_ref()).config_bytes;
    if size as u64 <= max || remembered::is_known(view, command).map_err(query::failed)? {
        return Ok(());
    }
    Err(content_quota(size as u64, max))
}

/// Whether the target is there; an error where the caller may not do this with it.
fn authorized(view: &conflux_raft::View<'_>, call: &Call, row: &TenantRow, target: &Target) -> Result<bool, ApiError> {
    let Target::Id(id, actions) = target else { return Ok(true) };
    let config = match query::get_config(view, row, *id) {
        Ok(config) => config,
        Err(e) if e.code == Code::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    if !call.sees(&config.app, &config.env, &config.name) {
        return Err(no_config(*id));
    }
    call.require(actions, &config.app, &config.env, &config.name)?;
    Ok(true)
}

/// Says the same of a config that is not there and of one that the caller may not know of.
pub fn no_config(id: ConfigId) -> ApiError {
    ApiError::new(Code::NotFound, format!("config {id} does not exist"))
}

/// The key with what it stands for. The fingerprint is of the operation, its target, its body and its conditions: the same
/// key with any other of them is a conflict.
fn idempotency(key: &IdempotencyKey, parts: &[Part], op: &Op) -> Result<Idempotency, ApiError> {
    let (key, ttl_ms) = match key {
        IdempotencyKey::Client(key) => (key, limits::MAX_KEY_TTL_MS),
        IdempotencyKey::Gateway(key) => (key, limits::DEFAULT_KEY_TTL_MS),
    };
    let valid = !key.is_empty() && key.len() <= limits::MAX_KEY_BYTES && key.bytes().all(|b| b.is_ascii_graphic());
    if !valid {
        let rule = format!("1 to {} visible ASCII characters", limits::MAX_KEY_BYTES);
        return Err(ApiError::invalid("Idempotency-Key", rule));
    }
    let body = ShardCommand { op: Some(without_content(op.clone())), ..Default::default() };
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(&body.encode_to_vec());
    for part in parts {
        add(part.conditions.if_match.map(|mark| mark.to_string()).unwrap_or_default().as_bytes());
        add(&[u8::from(part.conditions.if_absent)]);
    }
    Ok(Idempotency { key: key.clone(), fingerprint: hash.finalize().to_vec().into(), ttl_ms })
}

/// The content is in the fingerprint by its hash; the schema that it was checked against is not: a repetition may find another one. Of a draft only its number is: what is in it was looked up, and a repetition that
/// finds it gone is the same call.
fn without_content(mut op: Op) -> Op {
    match &mut op {
        Op::PutConfig(op) => without_put(op),
        Op::CreateConfig(op) => op.content.clear(),
        Op::CreateVersion(op) => without_version(op),
        Op::SaveDraft(op) => op.content.clear(),
        Op::Publish(op) => without_publish(op),
        Op::ApplyChangeset(op) => {
            for step in &mut op.steps {
                match &mut step.op {
                    Some(StepOp::PutConfig(op)) => without_put(op),
                    Some(StepOp::CreateConfig(op)) => op.content.clear(),
                    Some(StepOp::CreateVersion(op)) => without_version(op),
                    Some(StepOp::Publish(op)) => without_publish(op),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    op
}

fn without_put(op: &mut PutConfig) {
    op.content.clear();
    op.checked = None;
}

fn without_version(op: &mut CreateVersion) {
    op.content.clear();
    op.checked = None;
}

fn without_publish(op: &mut Publish) {
    op.content.clear();
    op.checked = None;
    if op.draft > 0 {
        op.sha256.clear();
        op.format.clear();
        op.schema.clear();
    }
}

#[cfg(test)]
mod tests {
    use conflux_proto::log::DeleteConfig;

    use super::*;

    fn put(name: &str, content: &'static [u8]) -> Op {
        Op::PutConfig(PutConfig {
            name: name.into(),
            content: content.into(),
            sha256: Sha256::digest(content).to_vec().into(),
            ..Default::default()
        })
    }

    fn fingerprint(conditions: Conditions, op: &Op) -> Vec<u8> {
        let parts = [Part { target: Target::Named, conditions }];
        idempotency(&IdempotencyKey::Client("k".into()), &parts, op).unwrap().fingerprint.to_vec()
    }

    /// A repeated call is the same call; anything else under its key must be noticed.
    #[test]
    fn the_fingerprint_is_of_operation_target_body_and_conditions() {
        let plain = Conditions::default();
        let first = fingerprint(plain, &put("a", b"1"));
        assert_eq!(first, fingerprint(plain, &put("a", b"1")));
        let absent = Conditions { if_absent: true, ..plain };
        let matching = Conditions { if_match: Some("1.2".parse().unwrap()), ..plain };
        let others = [
            fingerprint(plain, &put("b", b"1")),
            fingerprint(plain, &put("a", b"2")),
            fingerprint(plain, &Op::DeleteConfig(DeleteConfig { config_id: 1 })),
            fingerprint(absent, &put("a", b"1")),
            fingerprint(matching, &put("a", b"1")),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    /// A published draft is gone when the call is repeated: it must still be the same call, and another draft another one.
    #[test]
    fn a_draft_is_fingerprinted_by_its_number() {
        let of = |draft, sha256: &'static [u8]| {
            let publish = Publish { config_id: 1, draft, sha256: sha256.into(), ..Default::default() };
            fingerprint(Conditions::default(), &Op::Publish(publish))
        };
        assert_eq!(of(1, b"seen"), of(1, b""));
        assert_ne!(of(1, b""), of(2, b""));
    }

    /// A client's key lasts a day, a gateway's five minutes; one that cannot be a key is refused before anything is logged.
    #[test]
    fn keys_have_their_time_and_their_bounds() {
        let of = |key| idempotency(&key, &[], &put("a", b"1"));
        assert_eq!(of(IdempotencyKey::Client("k".into())).unwrap().ttl_ms, 24 * 3600 * 1000);
        assert_eq!(of(IdempotencyKey::Gateway("k".into())).unwrap().ttl_ms, 5 * 60 * 1000);
        for bad in ["".to_owned(), "a b".into(), "x".repeat(256)] {
            assert_eq!(of(IdempotencyKey::Client(bad)).unwrap_err().code, Code::InvalidArgument);
        }
    }
}
