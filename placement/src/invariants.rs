//! What must hold of the rows, checked on those that a command touched. A failure stops the process: better no answer
//! than a wrong one.

use conflux_proto::{
    internal::{KeyRecord, Move, MovePhase, TenantRecord, TenantState},
    store::{AnswerRecord, TenantRef},
};
use conflux_raft::{FatalError, Read, Tx};

use crate::{
    machine::{moves::has_ended, tenants::awaits_settings},
    store::{
        Key,
        rows::{counters, exists, load},
    },
};

/// Checks every row that `tx` set or removed.
pub fn check(tx: &Tx<'_>) -> Result<(), String> {
    for (key, value) in tx.touched() {
        let Some(key) = Key::decode(key) else { return Err(format!("a key that no row has: {key:02x?}")) };
        let held = holds(tx, &key, value.is_some()).map_err(|e| e.to_string())?;
        held.map_err(|why| format!("{why} ({key:?})"))?;
    }
    Ok(())
}

type Held = Result<(), &'static str>;

fn must(holds: bool, invariant: &'static str) -> Held {
    if holds { Ok(()) } else { Err(invariant) }
}

fn holds(rows: &impl Read, key: &Key, there: bool) -> Result<Held, FatalError> {
    match key {
        Key::Counters | Key::Role { .. } | Key::Hold | Key::Closed => Ok(Ok(())),
        Key::Group(name) | Key::RemovedGroup(name) => {
            let both = exists(rows, &Key::Group(name.clone()))? && exists(rows, &Key::RemovedGroup(name.clone()))?;
            Ok(must(!both, "a group that was removed is not there"))
        }
        Key::Tenant(id) | Key::Pending(id) | Key::Tombstone(id) => tenant(rows, *id),
        Key::Move(id) | Key::EndedMove(id) => one_move(rows, *id),
        Key::TenantName(folded) => name(rows, folded),
        Key::ApiKey(id) => api_key(rows, id),
        Key::KeyOfTenant { key, .. } => api_key(rows, key),
        Key::Answer { .. } => answer(rows, key),
        Key::AnswerExpiry { expires_ms, principal, key } => {
            let row = Key::Answer { principal: principal.clone(), key: key.clone() };
            let record: Option<AnswerRecord> = load(rows, &row)?;
            let same = record.is_some_and(|r| r.expires_ms == *expires_ms);
            Ok(must(same == there, "an answer and the time of its end go together"))
        }
        Key::Change(seq) => change(rows, *seq, there),
    }
}

fn tenant(rows: &impl Read, id: u64) -> Result<Held, FatalError> {
    let pending = exists(rows, &Key::Pending(id))?;
    let gone = exists(rows, &Key::Tombstone(id))?;
    let Some(tenant) = load::<TenantRecord>(rows, &Key::Tenant(id))? else {
        return Ok(must(!pending && gone, "of a tenant that is gone only the tombstone is left"));
    };
    let named: Option<TenantRef> = load(rows, &Key::TenantName(tenant.name.to_ascii_lowercase()))?;
    let next = counters(rows)?.next_tenant_id;
    let in_transit = match tenant.state() {
        TenantState::Creating | TenantState::Deleting => true,
        TenantState::Stable => false,
        TenantState::Unspecified | TenantState::Gone => {
            return Ok(Err("a live tenant is creating, stable or deleting"));
        }
    };
    Ok(must(!gone, "a tenant id is never used again")
        .and(must(tenant.id == id && id < next, "a tenant's id comes from the counter"))
        .and(must(named.is_some_and(|n| n.id == id), "one live tenant has a name, whatever its case"))
        .and(must(tenant.epoch >= 1 && tenant.incarnation >= 1, "epochs and incarnations begin with 1"))
        .and(must(exists(rows, &Key::Group(tenant.shard.clone()))?, "a tenant's shard is known"))
        .and(must(tenant.settings_applied <= tenant.settings_seq, "no settings are confirmed that were never made"))
        .and(must(
            pending == (in_transit || tenant.r#move.is_some() || awaits_settings(&tenant)),
            "the reconciler's work is what is being created or deleted, moves, or waits for its shard to take settings over",
        ))
        .and(match &tenant.r#move {
            Some(m) => moving(rows, &tenant, m)?,
            None => Ok(()),
        }))
}

/// A tenant and the move in its record.
fn moving(rows: &impl Read, tenant: &TenantRecord, m: &Move) -> Result<Held, FatalError> {
    let listed: Option<TenantRef> = load(rows, &Key::Move(m.id))?;
    let owner = (tenant.shard.as_str(), tenant.epoch);
    let owned = match m.phase() {
        MovePhase::Preparing | MovePhase::Freezing | MovePhase::Aborted => owner == (m.from.as_str(), m.from_epoch),
        MovePhase::Committed | MovePhase::Cleaning => owner == (m.to.as_str(), m.to_epoch),
        MovePhase::Unspecified | MovePhase::Done | MovePhase::GivenUp => false,
    };
    Ok(must(tenant.state() == TenantState::Stable, "only a stable tenant moves")
        .and(must(owned, "a tenant is the source's until its move is committed, and the destination's from then on"))
        .and(must(m.from != m.to && m.tenant_id == tenant.id, "a move leads its tenant from one shard to another"))
        .and(must(
            m.from_epoch < m.to_epoch && m.to_epoch <= tenant.last_epoch,
            "a move takes an epoch that was never given before",
        ))
        .and(must(listed.is_some_and(|l| l.id == tenant.id), "a move under way is listed with its tenant")))
}

fn one_move(rows: &impl Read, id: u64) -> Result<Held, FatalError> {
    let listed: Option<TenantRef> = load(rows, &Key::Move(id))?;
    let ended: Option<Move> = load(rows, &Key::EndedMove(id))?;
    let of = match &listed {
        Some(listed) => load::<TenantRecord>(rows, &Key::Tenant(listed.id))?.and_then(|t| t.r#move),
        None => None,
    };
    Ok(must(id < counters(rows)?.next_move_id, "a move's id comes from the counter")
        .and(must(listed.is_none() || of.is_some_and(|m| m.id == id), "a listed move is in its tenant's record"))
        .and(must(listed.is_none() || ended.is_none(), "a move is under way or has ended"))
        .and(must(ended.is_none_or(|m| m.id == id && has_ended(m.phase())), "what has ended goes no further")))
}

fn name(rows: &impl Read, folded: &str) -> Result<Held, FatalError> {
    let Some(named) = load::<TenantRef>(rows, &Key::TenantName(folded.to_owned()))? else { return Ok(Ok(())) };
    let tenant: Option<TenantRecord> = load(rows, &Key::Tenant(named.id))?;
    Ok(must(tenant.is_some_and(|t| t.name.to_ascii_lowercase() == folded), "a name belongs to a live tenant"))
}

fn api_key(rows: &impl Read, id: &str) -> Result<Held, FatalError> {
    let Some(key) = load::<KeyRecord>(rows, &Key::ApiKey(id.to_owned()))? else { return Ok(Ok(())) };
    let listed = exists(rows, &Key::KeyOfTenant { tenant: key.tenant.clone(), key: id.to_owned() })?;
    let owner = key.operator || exists(rows, &Key::TenantName(key.tenant.to_ascii_lowercase()))?;
    Ok(must(listed, "each key is listed with its tenant")
        .and(must(owner, "no key outlives its tenant"))
        .and(must(key.operator == key.tenant.is_empty(), "a key is of one tenant or an operator's")))
}

fn answer(rows: &impl Read, key: &Key) -> Result<Held, FatalError> {
    let Some(record) = load::<AnswerRecord>(rows, key)? else { return Ok(Ok(())) };
    let Key::Answer { principal, key } = key.clone() else { return Ok(Ok(())) };
    let expiry = Key::AnswerExpiry { expires_ms: record.expires_ms, principal, key };
    Ok(must(exists(rows, &expiry)?, "an answer and the time of its end go together"))
}

fn change(rows: &impl Read, seq: u64, there: bool) -> Result<Held, FatalError> {
    let counters = counters(rows)?;
    let kept = counters.change_floor < seq && seq <= counters.change_seq;
    Ok(must(kept == there, "the history is dense between its floor and the last change"))
}
