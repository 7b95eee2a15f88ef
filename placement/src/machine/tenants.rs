//! Tenants: `Creating -> Stable -> Deleting{e+1} -> Gone`. The id is never used again; the name is free once it is Gone.

use conflux_common::{error::Code, ids::TenantName, quotas::Quotas};
use conflux_proto::{
    internal::{TenantRecord, TenantState, change},
    log::{AdvanceTenant, ConfirmSettings, CreateTenant, SetQuotas, placement_answer::Result as Answer},
    quotas,
    store::{TenantRef, TenantTombstone},
};
use conflux_raft::{FatalError, Read, Tx};

use super::{Effect, Stop, credentials, groups, holds, invalid, refuse};
use crate::{
    directory::keys::check_description,
    scheduler::{self, Candidate},
    store::{
        Key,
        rows::{counters, load, mark, remove, save},
    },
};

/// The live tenant of this very name.
pub fn by_name(rows: &impl Read, name: &str) -> Result<Option<TenantRecord>, FatalError> {
    let found: Option<TenantRef> = load(rows, &Key::TenantName(name.to_ascii_lowercase()))?;
    match found {
        Some(found) => Ok(by_id(rows, found.id)?.filter(|t| t.name == name)),
        None => Ok(None),
    }
}

/// The live tenant of this id.
pub fn by_id(rows: &impl Read, id: u64) -> Result<Option<TenantRecord>, FatalError> {
    load(rows, &Key::Tenant(id))
}

/// The live tenant of this id, or what its tombstone keeps, in state Gone.
pub fn by_id_or_gone(rows: &impl Read, id: u64) -> Result<Option<TenantRecord>, FatalError> {
    if let Some(live) = by_id(rows, id)? {
        return Ok(Some(live));
    }
    let tombstone: Option<TenantTombstone> = load(rows, &Key::Tombstone(id))?;
    Ok(tombstone.map(|t| TenantRecord {
        id,
        name: t.name,
        incarnation: t.incarnation,
        shard: t.shard,
        epoch: t.epoch,
        state: TenantState::Gone.into(),
        ..TenantRecord::default()
    }))
}

/// Whether credentials may be made for this tenant: it is live and not being deleted.
pub(super) fn is_open(rows: &impl Read, name: &str) -> Result<bool, FatalError> {
    Ok(by_name(rows, name)?.is_some_and(|t| t.state() != TenantState::Deleting))
}

pub(super) fn create(tx: &mut Tx<'_>, now_ms: u64, create: CreateTenant) -> Result<Effect, Stop> {
    let name = TenantName::new(create.name.as_str()).map_err(|e| invalid("name", e.rule))?;
    check_description(&create.description)?;
    if let Some(taken) = load::<TenantRef>(tx, &Key::TenantName(name.folded()))? {
        let other = by_id(tx, taken.id)?.map(|t| t.name).unwrap_or_default();
        let rule = if other == name.as_str() { "" } else { ": names may not differ by case alone" };
        return Err(refuse(Code::AlreadyExists, format!("tenant {other:?} exists already{rule}")));
    }
    holds::require_free(tx, now_ms)?;
    let shard = place(tx, &name, &create.shard)?;
    let mut counters = counters(tx)?;
    let id = counters.next_tenant_id.max(1);
    counters.next_tenant_id = id + 1;
    let tenant = TenantRecord {
        id,
        name: name.to_string(),
        incarnation: 1,
        shard,
        epoch: 1,
        state: TenantState::Creating.into(),
        created_ms: now_ms,
        description: create.description,
        ..TenantRecord::default()
    };
    save(tx, &Key::Counters, &counters);
    save(tx, &Key::Tenant(id), &tenant);
    save(tx, &Key::TenantName(name.folded()), &TenantRef { id });
    mark(tx, &Key::Pending(id));
    Ok(Effect::new(Answer::Tenant(tenant.clone()), [change::Change::Tenant(tenant)]))
}

/// The shard that was asked for, which may have no weight, or the scheduler's choice.
fn place(rows: &impl Read, name: &TenantName, asked: &str) -> Result<String, Stop> {
    if !asked.is_empty() {
        return match groups::by_name(rows, asked)? {
            Some(group) => Ok(group.name),
            None => Err(invalid("shard", "no shard of this name has reported to placement")),
        };
    }
    let groups = groups::all(rows)?;
    let candidates =
        groups.iter().filter(|g| groups::has_voters(g)).map(|g| Candidate { shard: &g.name, weight: g.weight });
    match scheduler::choose(name.as_str(), candidates) {
        Some(shard) => Ok(shard.to_owned()),
        None => Err(refuse(
            Code::Unavailable,
            "no shard can take a new tenant: none has reported its members and has a weight above 0",
        )),
    }
}

/// Stops the tenant and revokes its keys at once: they are bound to its name, which will be free again.
pub(super) fn delete(tx: &mut Tx<'_>, now_ms: u64, name: &str) -> Result<Effect, Stop> {
    let Some(tenant) = by_name(tx, name)? else { return Err(refuse(Code::NotFound, "there is no such tenant")) };
    if tenant.state() == TenantState::Deleting {
        return Ok(Effect::new(Answer::Tenant(tenant), []));
    }
    if let Some(m) = &tenant.r#move {
        let why = format!("move {} of this tenant to {} is under way: cancel it or wait for its end", m.id, m.to);
        return Err(refuse(Code::FailedPrecondition, why));
    }
    holds::require_free(tx, now_ms)?;
    let epoch = last_epoch(&tenant) + 1;
    let tenant = TenantRecord { epoch, last_epoch: epoch, state: TenantState::Deleting.into(), ..tenant };
    save(tx, &Key::Tenant(tenant.id), &tenant);
    mark(tx, &Key::Pending(tenant.id));
    let mut changes = vec![change::Change::Tenant(tenant.clone())];
    changes.extend(credentials::remove_all(tx, &tenant.name)?);
    Ok(Effect::new(Answer::Tenant(tenant), changes))
}

/// Compare-and-set on id, epoch and state; what does not fit was overtaken and is refused without harm.
pub(super) fn advance(tx: &mut Tx<'_>, now_ms: u64, step: &AdvanceTenant) -> Result<Effect, Stop> {
    let tenant = by_id(tx, step.id)?.filter(|t| t.epoch == step.epoch && t.state() == step.from());
    let Some(tenant) = tenant else {
        return Err(refuse(Code::Aborted, format!("tenant {} is not in that state and epoch any more", step.id)));
    };
    match (step.from(), step.to()) {
        (TenantState::Creating, TenantState::Stable) => {
            let tenant = TenantRecord { state: TenantState::Stable.into(), ..tenant };
            save(tx, &Key::Tenant(tenant.id), &tenant);
            if !awaits_settings(&tenant) {
                remove(tx, &Key::Pending(tenant.id));
            }
            Ok(Effect::new(Answer::Tenant(tenant.clone()), [change::Change::Tenant(tenant)]))
        }
        (TenantState::Deleting, TenantState::Gone) => Ok(bury(tx, now_ms, tenant)),
        (from, to) => Err(invalid("to", format!("no tenant goes from {from:?} to {to:?}"))),
    }
}

/// The highest epoch that was ever given to this tenant: an aborted move has burnt its own.
pub(super) fn last_epoch(tenant: &TenantRecord) -> u64 {
    tenant.epoch.max(tenant.last_epoch)
}

/// Whether the shard has not confirmed the newest settings yet.
pub fn awaits_settings(tenant: &TenantRecord) -> bool {
    tenant.settings_applied < tenant.settings_seq
}

/// What the tenant may have. Its shard takes it over, and the reconciler asks until it says so.
pub(super) fn set_quotas(tx: &mut Tx<'_>, set: &SetQuotas) -> Result<Effect, Stop> {
    Quotas::check(quotas::from_wire(set.quotas.as_ref()))?;
    let found = by_name(tx, &set.tenant)?.filter(|t| t.state() != TenantState::Deleting);
    let Some(tenant) = found else { return Err(refuse(Code::NotFound, "there is no such tenant")) };
    if tenant.quotas.unwrap_or_default() == set.quotas.unwrap_or_default() {
        return Ok(Effect::new(Answer::Tenant(tenant), []));
    }
    let settings_seq = tenant.settings_seq + 1;
    let tenant = TenantRecord { quotas: set.quotas, settings_seq, ..tenant };
    save(tx, &Key::Tenant(tenant.id), &tenant);
    mark(tx, &Key::Pending(tenant.id));
    Ok(Effect::new(Answer::Tenant(tenant.clone()), [change::Change::Tenant(tenant)]))
}

/// The shard has the settings up to this number. What is known already changes nothing.
pub(super) fn confirm_settings(tx: &mut Tx<'_>, confirm: &ConfirmSettings) -> Result<Effect, Stop> {
    let Some(tenant) = by_id(tx, confirm.id)? else { return Err(refuse(Code::NotFound, "there is no such tenant")) };
    let settings_applied = confirm.settings_seq.min(tenant.settings_seq);
    if settings_applied <= tenant.settings_applied {
        return Ok(Effect::new(Answer::Tenant(tenant), []));
    }
    let tenant = TenantRecord { settings_applied, ..tenant };
    save(tx, &Key::Tenant(tenant.id), &tenant);
    if tenant.state() == TenantState::Stable && tenant.r#move.is_none() && !awaits_settings(&tenant) {
        remove(tx, &Key::Pending(tenant.id));
    }
    Ok(Effect::new(Answer::Tenant(tenant.clone()), [change::Change::Tenant(tenant)]))
}

/// Leaves nothing but a tombstone: the name is free, the id never is.
fn bury(tx: &mut Tx<'_>, now_ms: u64, tenant: TenantRecord) -> Effect {
    remove(tx, &Key::Tenant(tenant.id));
    remove(tx, &Key::TenantName(tenant.name.to_ascii_lowercase()));
    remove(tx, &Key::Pending(tenant.id));
    let tombstone = TenantTombstone {
        epoch: tenant.epoch,
        gone_ms: now_ms,
        name: tenant.name.clone(),
        shard: tenant.shard.clone(),
        incarnation: tenant.incarnation,
    };
    save(tx, &Key::Tombstone(tenant.id), &tombstone);
    let gone = TenantRecord { state: TenantState::Gone.into(), ..tenant };
    let id = gone.id;
    Effect::new(Answer::Tenant(gone), [change::Change::TenantGone(id)])
}
