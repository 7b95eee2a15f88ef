//! Answers remembered under a key: one effect and one answer for each (DESIGN section 3).

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use conflux_common::{
    error::{ApiError, Code},
    planted,
};
use conflux_proto::{log::ShardCommand, log::shard_command::Op, store};
use conflux_raft::{FatalError, Read, Tx, View};
use sha2::{Digest, Sha256};

use super::{
    limits,
    stop::{Stop, quota},
};
use crate::store::{
    idempotency,
    keys::{Family, Key},
};

/// What a key says before the operation is tried.
pub(super) enum Found {
    /// The same call was answered before.
    Answer(Bytes),
    /// Not answered before: where the answer goes, if there is a key.
    Slot(Option<Slot>),
}

/// Where an answer will be remembered.
pub(super) struct Slot {
    tenant: u64,
    scope: [u8; 32],
    fingerprint: Bytes,
    expires_ms: u64,
    /// The expiry of a record of the same scope that has expired but is not yet removed.
    replaces: Option<u64>,
}

/// Looks for the answer to the same key; a key that stands for another call is a conflict, which is not remembered.
pub(super) fn look_up(tx: &Tx<'_>, command: &ShardCommand, row: &store::Tenant, now_ms: u64) -> Result<Found, Stop> {
    let Some(idempotency) = &command.idempotency else { return Ok(Found::Slot(None)) };
    if idempotency.key.is_empty() || idempotency.key.len() > limits::MAX_KEY_BYTES {
        let rule = format!("1 to {} bytes", limits::MAX_KEY_BYTES);
        return Err(ApiError::invalid("Idempotency-Key", rule).into());
    }
    let scope = scope(command, &idempotency.key);
    let known = idempotency::get(tx, row.id, scope)?
        .filter(|_| !planted::has("forgotten_keys"))
        .filter(|record| !(planted::has("keys_not_in_snapshot") && left_out(record.expires_ms)));
    let mut replaces = None;
    match known {
        Some(record) if record.expires_ms <= now_ms => replaces = Some(record.expires_ms),
        Some(record) if record.fingerprint == idempotency.fingerprint => return Ok(Found::Answer(record.answer)),
        Some(_) => {
            let text = "this idempotency key was used for another call: use a new key";
            return Err(ApiError::new(Code::Aborted, text).with_detail("Idempotency-Key", text).into());
        }
        None if row.idempotency_records >= limits::MAX_IDEMPOTENCY_RECORDS => {
            return Err(quota("idempotency_records", limits::MAX_IDEMPOTENCY_RECORDS, "answers remembered at a time"));
        }
        None => {}
    }
    let ttl = match idempotency.ttl_ms {
        0 => limits::DEFAULT_KEY_TTL_MS,
        ttl => ttl.min(limits::MAX_KEY_TTL_MS),
    };
    let expires_ms = now_ms.saturating_add(ttl);
    let fingerprint = idempotency.fingerprint.clone();
    Ok(Found::Slot(Some(Slot { tenant: row.id, scope, fingerprint, expires_ms, replaces })))
}

/// The latest expiry that a snapshot's records had when it was taken over: the planted bug forgets what is not later.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// A planted bug: a snapshot replaced the state, and left the answers remembered under keys out.
pub(super) fn leave_out(view: &View<'_>) {
    let first = [Family::IdempotencyExpiry as u8];
    let end = [Family::IdempotencyExpiry as u8 + 1];
    let mut latest = 0;
    let scanned = view.scan(&first, &end, &mut |key, _| {
        if let Ok(Key::IdempotencyExpiry { expires_ms, .. }) = Key::decode(key) {
            latest = latest.max(expires_ms);
        }
        ControlFlow::Continue(())
    });
    if scanned.is_ok() {
        LEFT_OUT.store(latest, Ordering::Relaxed);
    }
}

fn left_out(expires_ms: u64) -> bool {
    expires_ms <= LEFT_OUT.load(Ordering::Relaxed)
}

impl Slot {
    /// Remembers the answer.
    pub fn remember(self, tx: &mut Tx<'_>, row: &mut store::Tenant, answer: Bytes) {
        match self.replaces {
            Some(expires_ms) => idempotency::delete(tx, self.tenant, self.scope, expires_ms),
            None => row.idempotency_records += 1,
        }
        let record = store::IdempotencyRecord { fingerprint: self.fingerprint, answer, expires_ms: self.expires_ms };
        idempotency::put(tx, self.tenant, self.scope, &record);
    }
}

/// Whether an answer is remembered under the command's key, so that the command must be proposed to get it.
pub(crate) fn is_known(rows: &dyn Read, command: &ShardCommand) -> Result<bool, FatalError> {
    match &command.idempotency {
        Some(given) => knows(rows, command.tenant_id, &command.principal, operation(command), &given.key),
        None => Ok(false),
    }
}

/// The same before there is a command: of a principal's operation.
pub(crate) fn knows(
    rows: &dyn Read,
    tenant: u64,
    principal: &str,
    operation: &str,
    key: &str,
) -> Result<bool, FatalError> {
    Ok(idempotency::get(rows, tenant, scope_of(principal, operation, key))?.is_some())
}

/// Principal, operation and key; the tenant is in the row's key. Each with its length, so that no two triples meet.
fn scope(command: &ShardCommand, key: &str) -> [u8; 32] {
    scope_of(&command.principal, operation(command), key)
}

fn scope_of(principal: &str, operation: &str, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [principal, operation, key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// Names of operations, as [`operation`] gives them.
pub(crate) const PUT_CONFIG: &str = "put_config";
pub(crate) const CREATE_VERSION: &str = "create_version";
pub(crate) const PUBLISH: &str = "publish";
pub(crate) const APPLY_CHANGESET: &str = "apply_changeset";

/// The operation's name in the scope and in audit records: stable for ever.
pub(super) fn operation(command: &ShardCommand) -> &'static str {
    match command.op {
        Some(Op::PutConfig(_)) => PUT_CONFIG,
        Some(Op::CreateConfig(_)) => "create_config",
        Some(Op::CreateVersion(_)) => CREATE_VERSION,
        Some(Op::SetReleases(_)) => "set_releases",
        Some(Op::DeleteConfig(_)) => "delete_config",
        Some(Op::UpdateConfig(_)) => "update_config",
        Some(Op::SaveDraft(_)) => "save_draft",
        Some(Op::DropDraft(_)) => "drop_draft",
        Some(Op::Publish(_)) => PUBLISH,
        Some(Op::Rollback(_)) => "rollback",
        Some(Op::ApplyChangeset(_)) => APPLY_CHANGESET,
        Some(Op::CancelPromotion(_)) => "cancel_promotion",
        Some(Op::PutScope(_)) => "put_scope",
        Some(Op::DeleteScope(_)) => "delete_scope",
        Some(Op::Promote(_)) => "promote",
        Some(Op::Prune(_)) => "prune",
        Some(
            Op::Activate(_)
            | Op::DeleteTenant(_)
            | Op::SweepTenant(_)
            | Op::Expire(_)
            | Op::Track(_)
            | Op::Freeze(_)
            | Op::Depart(_)
            | Op::BeginImport(_)
            | Op::ImportRows(_)
            | Op::Seal(_)
            | Op::TakeOver(_)
            | Op::EndMove(_)
            | Op::ForgetTouched(_)
            | Op::ServeRestored(_),
        )
        | None => "",
    }
}
