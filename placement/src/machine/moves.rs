//! Moves of tenants: the record's side of docs/adr/0003-moves.md. `Preparing -> Freezing -> Committed -> Cleaning -> Done`, and
//! `Preparing | Freezing -> Aborted -> GivenUp`. Each step is a compare-and-set on (tenant, move, phase): what is late is refused
//! without effect. A move under way is part of its tenant's record; an ended one is a row of its own, the last 1,000 are kept.

use conflux_common::error::Code;
use conflux_proto::{
    internal::{Move, MovePhase, TenantRecord, TenantState, change},
    log::{AdvanceMove, CancelMove, StartMove, placement_answer::Result as Answer},
    store::TenantRef,
};
use conflux_raft::{FatalError, Read, Tx};

use super::{
    Effect, Stop, groups, holds, invalid, refuse,
    tenants::{self, awaits_settings, last_epoch},
};
use crate::store::{
    Family, Key,
    rows::{counters, list, list_keys, load, mark, remove, save},
};

/// From this level on tenants can be moved.
pub const LEVEL: u32 = 2;
/// Ended moves that are kept to be looked at.
pub const KEPT: usize = 1000;
/// Moves under way at once. Beyond it one has to wait: each is worked on again and again until it ends.
pub const MAX_UNDER_WAY: usize = 256;
/// Characters of the reason of an abort.
const MAX_REASON: usize = 500;

/// The move of this id, under way or ended, as far as it is kept.
pub fn by_id(rows: &impl Read, id: u64) -> Result<Option<Move>, FatalError> {
    match under_way_by_id(rows, id)? {
        Some(tenant) => Ok(tenant.r#move),
        None => load(rows, &Key::EndedMove(id)),
    }
}

/// The tenant that moves by this id.
fn under_way_by_id(rows: &impl Read, id: u64) -> Result<Option<TenantRecord>, FatalError> {
    let Some(moved) = load::<TenantRef>(rows, &Key::Move(id))? else { return Ok(None) };
    let tenant = tenants::by_id(rows, moved.id)?.filter(|t| t.r#move.as_ref().is_some_and(|m| m.id == id));
    match tenant {
        Some(tenant) => Ok(Some(tenant)),
        None => Err(FatalError(format!("move {id} is of tenant {}, which does not move by it", moved.id))),
    }
}

/// All moves under way, lowest id first.
pub fn under_way(rows: &impl Read) -> Result<Vec<Move>, FatalError> {
    let (from, to) = Family::Move.range();
    let refs: Vec<(Vec<u8>, TenantRef)> = list(rows, (&from, &to), MAX_UNDER_WAY)?;
    let mut moves = Vec::with_capacity(refs.len());
    for (_, tenant) in refs {
        moves.extend(tenants::by_id(rows, tenant.id)?.and_then(|t| t.r#move));
    }
    Ok(moves)
}

/// All moves that are known, newest first.
pub fn all(rows: &impl Read) -> Result<Vec<Move>, FatalError> {
    let (from, to) = Family::EndedMove.range();
    let ended: Vec<(Vec<u8>, Move)> = list(rows, (&from, &to), KEPT)?;
    let mut moves = under_way(rows)?;
    moves.extend(ended.into_iter().map(|(_, m)| m));
    moves.sort_by_key(|m| std::cmp::Reverse(m.id));
    Ok(moves)
}

/// A move begins. The same again answers the one that is under way.
pub(super) fn start(tx: &mut Tx<'_>, now_ms: u64, principal: String, start: &StartMove) -> Result<Effect, Stop> {
    let Some(tenant) = tenants::by_name(tx, &start.tenant)? else {
        return Err(refuse(Code::NotFound, "there is no such tenant"));
    };
    if let Some(m) = &tenant.r#move {
        if m.to == start.to && !matches!(m.phase(), MovePhase::Aborted) {
            return Ok(Effect::new(Answer::Move(m.clone()), []));
        }
        let why = format!("move {} of this tenant to {} is {}: wait for its end", m.id, m.to, phase_name(m.phase()));
        return Err(refuse(Code::FailedPrecondition, why));
    }
    holds::require_free(tx, now_ms)?;
    let state = match tenant.state() {
        TenantState::Stable => None,
        TenantState::Creating => Some("is still being created: try again in a moment"),
        _ => Some("is being deleted"),
    };
    if let Some(why) = state {
        return Err(refuse(Code::FailedPrecondition, format!("tenant {} {why}", tenant.name)));
    }
    let Some(group) = groups::by_name(tx, &start.to)? else {
        return Err(invalid("to", "no shard of this name has reported to placement"));
    };
    if !groups::has_voters(&group) {
        return Err(refuse(Code::FailedPrecondition, format!("shard {} has no voters", group.name)));
    }
    if tenant.shard == start.to {
        return Err(refuse(Code::FailedPrecondition, format!("tenant {} is on {} already", tenant.name, start.to)));
    }
    let (from, to) = Family::Move.range();
    if list_keys(tx, (&from, &to), MAX_UNDER_WAY)?.len() >= MAX_UNDER_WAY {
        let why = format!("{MAX_UNDER_WAY} moves are under way: wait for some to end");
        return Err(refuse(Code::ResourceExhausted, why));
    }
    let mut counters = counters(tx)?;
    let id = counters.next_move_id.max(1);
    counters.next_move_id = id + 1;
    let to_epoch = last_epoch(&tenant) + 1;
    let begun = Move {
        id,
        tenant_id: tenant.id,
        tenant: tenant.name.clone(),
        from: tenant.shard.clone(),
        to: group.name,
        from_epoch: tenant.epoch,
        to_epoch,
        phase: MovePhase::Preparing.into(),
        started_ms: now_ms,
        phase_ms: now_ms,
        principal,
        ..Move::default()
    };
    let tenant = TenantRecord { last_epoch: to_epoch, r#move: Some(begun.clone()), ..tenant };
    save(tx, &Key::Counters, &counters);
    save(tx, &Key::Tenant(tenant.id), &tenant);
    save(tx, &Key::Move(id), &TenantRef { id: tenant.id });
    mark(tx, &Key::Pending(tenant.id));
    Ok(Effect::new(Answer::Move(begun), [change::Change::Tenant(tenant)]))
}

/// The next phase, by the reconciler. What does not fit was overtaken.
pub(super) fn advance(tx: &mut Tx<'_>, now_ms: u64, step: &AdvanceMove) -> Result<Effect, Stop> {
    let tenant = tenants::by_id(tx, step.tenant_id)?;
    let fits = |m: &Move| m.id == step.r#move && m.phase() == step.from();
    let Some(tenant) = tenant.filter(|t| t.r#move.as_ref().is_some_and(fits)) else {
        return Err(refuse(Code::Aborted, format!("move {} is not in that phase any more", step.r#move)));
    };
    use MovePhase::{Aborted, Cleaning, Committed, Done, Freezing, GivenUp, Preparing};
    match (step.from(), step.to()) {
        (Preparing, Freezing) | (Committed, Cleaning) => Ok(enter(tx, now_ms, tenant, step.to(), |_| {})),
        (Freezing, Committed) => Ok(enter(tx, now_ms, tenant, Committed, |m| {
            m.bytes = step.bytes;
            m.pause_ms = step.pause_ms;
        })),
        (Preparing | Freezing, Aborted) => Ok(abort(tx, now_ms, tenant, &step.reason)),
        (Cleaning, Done) | (Aborted, GivenUp) => Ok(end(tx, now_ms, tenant, step.to())?),
        (from, to) => Err(invalid("to", format!("no move goes from {from:?} to {to:?}"))),
    }
}

/// By an operator, as long as it is not committed. What is given up already is answered as it is.
pub(super) fn cancel(tx: &mut Tx<'_>, now_ms: u64, cancel: &CancelMove) -> Result<Effect, Stop> {
    let id = cancel.r#move;
    let Some(tenant) = under_way_by_id(tx, id)? else {
        return match load::<Move>(tx, &Key::EndedMove(id))? {
            None => Err(refuse(Code::NotFound, "there is no such move, or it ended long ago")),
            Some(ended) if ended.phase() == MovePhase::GivenUp => Ok(Effect::new(Answer::Move(ended), [])),
            Some(_) => Err(refuse(Code::FailedPrecondition, COMMITTED)),
        };
    };
    match tenant.r#move.as_ref().map(Move::phase) {
        Some(MovePhase::Preparing | MovePhase::Freezing) => Ok(abort(tx, now_ms, tenant, &cancel.reason)),
        Some(MovePhase::Aborted) => Ok(Effect::new(Answer::Move(tenant.r#move.unwrap_or_default()), [])),
        _ => Err(refuse(Code::FailedPrecondition, COMMITTED)),
    }
}

const COMMITTED: &str = "this move is committed: the tenant can only be moved back, by another move";

fn abort(tx: &mut Tx<'_>, now_ms: u64, tenant: TenantRecord, reason: &str) -> Effect {
    let reason: String = reason.chars().take(MAX_REASON).collect();
    enter(tx, now_ms, tenant, MovePhase::Aborted, |m| m.reason = reason)
}

/// The move of `tenant` is in `phase` from now on; where that commits it, the destination owns the tenant.
fn enter(
    tx: &mut Tx<'_>,
    now_ms: u64,
    mut tenant: TenantRecord,
    phase: MovePhase,
    also: impl FnOnce(&mut Move),
) -> Effect {
    let mut m = tenant.r#move.take().unwrap_or_default();
    m.phase = phase.into();
    m.phase_ms = now_ms;
    also(&mut m);
    if phase == MovePhase::Committed {
        tenant.shard = m.to.clone();
        tenant.epoch = m.to_epoch;
    }
    tenant.r#move = Some(m.clone());
    save(tx, &Key::Tenant(tenant.id), &tenant);
    Effect::new(Answer::Move(m), [change::Change::Tenant(tenant)])
}

/// Nothing of it is left to do.
fn end(tx: &mut Tx<'_>, now_ms: u64, mut tenant: TenantRecord, phase: MovePhase) -> Result<Effect, FatalError> {
    let mut m = tenant.r#move.take().unwrap_or_default();
    m.phase = phase.into();
    m.phase_ms = now_ms;
    m.ended_ms = now_ms;
    save(tx, &Key::Tenant(tenant.id), &tenant);
    remove(tx, &Key::Move(m.id));
    save(tx, &Key::EndedMove(m.id), &m);
    if !awaits_settings(&tenant) {
        remove(tx, &Key::Pending(tenant.id));
    }
    forget_oldest(tx)?;
    Ok(Effect::new(Answer::Move(m), [change::Change::Tenant(tenant)]))
}

fn forget_oldest(tx: &mut Tx<'_>) -> Result<(), FatalError> {
    let (from, to) = Family::EndedMove.range();
    let ended = list_keys(tx, (&from, &to), KEPT + 1)?;
    if ended.len() > KEPT {
        remove(tx, &ended[0]);
    }
    Ok(())
}

/// As users see it.
pub fn phase_name(phase: MovePhase) -> &'static str {
    match phase {
        MovePhase::Unspecified => "unknown",
        MovePhase::Preparing => "preparing",
        MovePhase::Freezing => "freezing",
        MovePhase::Committed => "committed",
        MovePhase::Cleaning => "cleaning",
        MovePhase::Aborted => "aborted",
        MovePhase::Done => "done",
        MovePhase::GivenUp => "given_up",
    }
}

/// Whether nothing happens about it any more.
pub fn has_ended(phase: MovePhase) -> bool {
    matches!(phase, MovePhase::Done | MovePhase::GivenUp)
}
