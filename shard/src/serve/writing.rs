//! Writes: who may, under which condition and key, then one entry of the log.

use std::sync::Arc;

use conflux_common::{
    error::{ApiError, Code, Hint},
    grant::Action,
    ids::{ConfigId, Epoch, Incarnation},
};
use conflux_proto::{
    context::IdempotencyKey,
    log::{Idempotency, ShardCommand, shard_answer, shard_command::Op},
    quotas::effective,
    v1::{ChangesetResponse, WriteResponse},
};
use conflux_raft::View;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{call::Call, conditions::Conditions, reading::owned};
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

/// Proposes the write and answers what it made. `op` is complete and checked.
pub async fn write(
    shard: &Arc<Shard>,
    call: &Call,
    conditions: Conditions,
    target: Target,
    op: Op,
) -> Result<WriteResponse, ApiError> {
    match submit(shard, call, conditions, target, op).await? {
        shard_answer::Result::Write(answer) => Ok(answer),
        _ => Err(something_else()),
    }
}

/// The same for several writes, all or nothing. Each is authorized and has its own condition.
pub async fn write_changeset(
    shard: &Arc<Shard>,
    call: &Call,
    conditions: Conditions,
    op: Op,
) -> Result<ChangesetResponse, ApiError> {
    match submit(shard, call, conditions, Target::Named, op).await? {
        shard_answer::Result::Changeset(answer) => Ok(answer),
        _ => Err(something_else()),
    }
}

fn something_else() -> ApiError {
    ApiError::new(Code::Internal, "apply answered something else").outcome_unknown()
}

async fn submit(
    shard: &Arc<Shard>,
    call: &Call,
    conditions: Conditions,
    target: Target,
    op: Op,
) -> Result<shard_answer::Result, ApiError> {
    let mut command = ShardCommand {
        tenant_id: call.tenant.0,
        epoch: call.epoch.0,
        principal: call.principal.name.clone(),
        request_id: call.request_id.clone(),
        trace_id: call.trace_id.clone(),
        idempotency: call.idempotency.as_ref().map(|key| idempotency(key, conditions, &op)).transpose()?,
        if_match: 0,
        if_absent: conditions.if_absent,
        op: Some(op),
    };
    let mut looked_up = false;
    loop {
        shard.node.check_leader()?;
        let outcome = match prepare(shard, call, conditions, &target, &command).await? {
            Prepared::Unowned => Err(not_here(Epoch(0))),
            Prepared::Known(if_match) => {
                command.if_match = if_match;
                propose(&shard.node, &command, call.left()?).await
            }
            // Perhaps deleted by this very call, the first time: then its answer is remembered under the key. Should the id
            // come to be in this moment, nobody has checked the rights to it: a revision that no config has keeps the
            // command from touching it.
            Prepared::Absent(id) => {
                command.if_match = u64::MAX;
                let outcome = propose(&shard.node, &command, call.left()?).await;
                outcome.map_err(|e| match e.code {
                    Code::FailedPrecondition if conditions.if_match.is_none() => no_config(id),
                    _ => e,
                })
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

/// What the leader's state says of a write before it is proposed.
enum Prepared {
    /// The tenant is not known here under this epoch.
    Unowned,
    /// The caller may do this; the revision that the command demands (0: none).
    Known(u64),
    /// There is no such config. Only asked further where a key may remember that there was.
    Absent(ConfigId),
}

/// Checks ownership, rights and condition against the leader's state.
async fn prepare(
    shard: &Arc<Shard>,
    call: &Call,
    conditions: Conditions,
    target: &Target,
    command: &ShardCommand,
) -> Result<Prepared, ApiError> {
    let look = || shard.node.read(|view| check(view, call, conditions, target, command));
    match look()?? {
        // A leader may be behind what earlier leaders committed: only after a barrier is "not there" the truth.
        Prepared::Absent(_) => {}
        other => return Ok(other),
    }
    shard.node.read_barrier(call.left()?).await?;
    match look()?? {
        Prepared::Absent(id) if call.idempotency.is_none() => Err(no_config(id)),
        other => Ok(other),
    }
}

fn check(
    view: &View<'_>,
    call: &Call,
    conditions: Conditions,
    target: &Target,
    command: &ShardCommand,
) -> Result<Prepared, ApiError> {
    let Some(row) = owned(view, call)? else { return Ok(Prepared::Unowned) };
    let if_match = conditions.revision_within(Incarnation(row.incarnation))?;
    check_size(view, &row, command)?;
    match target {
        Target::Id(id, _) if !authorized(view, call, &row, target)? => Ok(Prepared::Absent(*id)),
        Target::Id(..) | Target::Named => Ok(Prepared::Known(if_match)),
    }
}

/// Refuses a content beyond the tenant's quota before it goes into the log. One whose answer may be remembered goes on: apply
/// decides, and has the answer.
fn check_size(view: &View<'_>, row: &TenantRow, command: &ShardCommand) -> Result<(), ApiError> {
    let size = match &command.op {
        Some(Op::PutConfig(op)) => op.content.len(),
        Some(Op::CreateConfig(op)) => op.content.len(),
        Some(Op::CreateVersion(op)) => op.content.len(),
        Some(Op::SaveDraft(op)) => op.content.len(),
        Some(Op::Publish(op)) => op.content.len(),
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
fn idempotency(key: &IdempotencyKey, conditions: Conditions, op: &Op) -> Result<Idempotency, ApiError> {
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
    let condition = conditions.if_match.map(|mark| mark.to_string()).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [body.encode_to_vec().as_slice(), condition.as_bytes(), &[u8::from(conditions.if_absent)]] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Ok(Idempotency { key: key.clone(), fingerprint: hash.finalize().to_vec().into(), ttl_ms })
}

/// The content is in the fingerprint by its hash.
fn without_content(op: Op) -> Op {
    match op {
        Op::PutConfig(mut put) => {
            put.content.clear();
            Op::PutConfig(put)
        }
        Op::CreateConfig(mut create) => {
            create.content.clear();
            Op::CreateConfig(create)
        }
        Op::CreateVersion(mut create) => {
            create.content.clear();
            Op::CreateVersion(create)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use conflux_proto::log::{DeleteConfig, PutConfig};

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
        idempotency(&IdempotencyKey::Client("k".into()), conditions, op).unwrap().fingerprint.to_vec()
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

    /// A client's key lasts a day, a gateway's five minutes; one that cannot be a key is refused before anything is logged.
    #[test]
    fn keys_have_their_time_and_their_bounds() {
        let of = |key| idempotency(&key, Conditions::default(), &put("a", b"1"));
        assert_eq!(of(IdempotencyKey::Client("k".into())).unwrap().ttl_ms, 24 * 3600 * 1000);
        assert_eq!(of(IdempotencyKey::Gateway("k".into())).unwrap().ttl_ms, 5 * 60 * 1000);
        for bad in ["".to_owned(), "a b".into(), "x".repeat(256)] {
            assert_eq!(of(IdempotencyKey::Client(bad)).unwrap_err().code, Code::InvalidArgument);
        }
    }
}
