//! Shard groups: known from their first report, replaced by newer ones; the weight is the operators'. A group that an
//! operator removed stays away while its members go on reporting; another group may take its name.

use std::ops::ControlFlow;

use conflux_common::{
    error::Code,
    ids::{GroupName, MemberName},
};
use conflux_proto::{
    internal::{GroupRecord, TenantRecord, change},
    log::{SetShardWeight, placement_answer::Result as Answer},
};
use conflux_raft::{FatalError, Read, Tx};
use prost::Message;

use super::{Effect, Stop, invalid, refuse, restored};
use crate::store::{
    Family, Key,
    rows::{list, list_keys, load, remove, save},
};

/// Of a shard whose first report names none.
pub const DEFAULT_WEIGHT: u32 = 100;
/// The largest weight.
pub const MAX_WEIGHT: u32 = 10_000;
/// Shard groups of a federation.
pub const MAX_GROUPS: usize = 1024;
/// Members of a group.
const MAX_MEMBERS: usize = 64;
/// From this level on shards can be removed, and records say which founding reports.
pub const REMOVAL_LEVEL: u32 = 2;
/// The name of placement's own group.
const PLACEMENT: &str = "placement";

/// Whether a report tells more than what is known: of a later life, membership, or term, or another leader in the same.
pub fn tells_more(known: Option<&GroupRecord>, report: &GroupRecord) -> bool {
    let Some(known) = known else { return true };
    let life = |g: &GroupRecord| (g.restored_ms, g.log_index, g.term);
    let (old, new) = (life(known), life(report));
    new > old
        || (new == old
            && (known.leader != report.leader || known.members != report.members || known.founding != report.founding))
}

/// Whether it can hold tenants at all.
pub fn has_voters(group: &GroupRecord) -> bool {
    group.members.iter().any(|m| m.voter)
}

/// All groups.
pub fn all(rows: &impl Read) -> Result<Vec<GroupRecord>, FatalError> {
    let (from, to) = Family::Group.range();
    Ok(list(rows, (&from, &to), MAX_GROUPS)?.into_iter().map(|(_, group)| group).collect())
}

/// The group of this name.
pub fn by_name(rows: &impl Read, name: &str) -> Result<Option<GroupRecord>, FatalError> {
    load(rows, &Key::Group(name.to_owned()))
}

pub(super) fn report(tx: &mut Tx<'_>, report: GroupRecord) -> Result<Effect, Stop> {
    check(&report)?;
    if let Some(removed) = load::<GroupRecord>(tx, &Key::RemovedGroup(report.name.clone()))? {
        if report.founding.is_empty() || report.founding == removed.founding {
            let why = "this shard was removed by an operator: stop its members. Its name is free for a group that is \
                       founded anew, from empty data directories";
            return Err(refuse(Code::FailedPrecondition, why));
        }
        remove(tx, &Key::RemovedGroup(report.name.clone()));
    }
    restored::take_report(tx, &report)?;
    let known = by_name(tx, &report.name)?;
    if !tells_more(known.as_ref(), &report) {
        return Ok(Effect::new(Answer::Done(false), []));
    }
    if known.is_none() {
        let (from, to) = Family::Group.range();
        if list_keys(tx, (&from, &to), MAX_GROUPS)?.len() >= MAX_GROUPS {
            return Err(refuse(Code::ResourceExhausted, format!("there are {MAX_GROUPS} shards already")));
        }
    }
    // A shard's own word counts once; from then on the weight is the operators'.
    let first = if (1..=MAX_WEIGHT).contains(&report.weight) { report.weight } else { DEFAULT_WEIGHT };
    let group = GroupRecord { weight: known.map_or(first, |k| k.weight), ..report };
    save(tx, &Key::Group(group.name.clone()), &group);
    Ok(Effect::new(Answer::Done(true), [change::Change::Group(group)]))
}

fn check(report: &GroupRecord) -> Result<(), Stop> {
    GroupName::new(report.name.as_str()).map_err(|e| invalid("group.name", e.rule))?;
    if report.name == PLACEMENT {
        return Err(invalid("group.name", "placement is no shard"));
    }
    if report.members.is_empty() || report.members.len() > MAX_MEMBERS {
        return Err(invalid("group.members", format!("1 to {MAX_MEMBERS} members")));
    }
    for (i, member) in report.members.iter().enumerate() {
        MemberName::new(member.name.as_str()).map_err(|e| invalid(format!("group.members[{i}].name"), e.rule))?;
        if member.service_address.is_empty() || member.service_address.len() > 300 {
            return Err(invalid(format!("group.members[{i}].service_address"), "host:port"));
        }
    }
    Ok(())
}

pub(super) fn set_weight(tx: &mut Tx<'_>, set: &SetShardWeight) -> Result<Effect, Stop> {
    if set.weight > MAX_WEIGHT {
        return Err(invalid("weight", format!("0 to {MAX_WEIGHT}; 0 means no new tenants")));
    }
    let Some(known) = by_name(tx, &set.shard)? else {
        return Err(refuse(Code::NotFound, "no shard of this name has reported to placement"));
    };
    if known.weight == set.weight {
        return Ok(Effect::new(Answer::Done(false), []));
    }
    let group = GroupRecord { weight: set.weight, ..known };
    save(tx, &Key::Group(group.name.clone()), &group);
    Ok(Effect::new(Answer::Done(true), [change::Change::Group(group)]))
}

/// Removes a shard that has no tenants.
pub(super) fn remove_shard(tx: &mut Tx<'_>, name: &str) -> Result<Effect, Stop> {
    let Some(known) = by_name(tx, name)? else {
        return Err(refuse(Code::NotFound, "no shard of this name has reported to placement"));
    };
    let left = tenants_on(tx, name)?;
    if left > 0 {
        let they = if left == 1 { "1 tenant is".to_owned() } else { format!("{left} tenants are") };
        let why = format!(
            "{they} still on {name}: move them to other shards or delete them, and set the weight to 0 so that no new \
             one comes"
        );
        return Err(refuse(Code::FailedPrecondition, why));
    }
    remove(tx, &Key::Group(known.name.clone()));
    save(tx, &Key::RemovedGroup(known.name.clone()), &known);
    Ok(Effect::new(Answer::Done(true), [change::Change::GroupGone(known.name)]))
}

/// Live tenants, those that are being deleted or come by a move included. Reads all records: for an operator's rare question.
fn tenants_on(rows: &impl Read, shard: &str) -> Result<usize, FatalError> {
    let (from, to) = Family::Tenant.range();
    let (mut count, mut damaged) = (0, None);
    rows.scan(&from, &to, &mut |key, value| match TenantRecord::decode(value) {
        Ok(tenant) => {
            let moves = tenant.r#move.as_ref().is_some_and(|m| m.from == shard || m.to == shard);
            count += usize::from(moves || tenant.shard == shard);
            ControlFlow::Continue(())
        }
        Err(e) => {
            damaged = Some(FatalError(format!("row {:?} cannot be read: {e}", Key::decode(key))));
            ControlFlow::Break(())
        }
    })?;
    damaged.map_or(Ok(count), Err)
}
