//! Shard groups: known from their first report, replaced by newer ones; the weight is the operators'.

use conflux_common::{
    error::Code,
    ids::{GroupName, MemberName},
};
use conflux_proto::{
    internal::{GroupRecord, change},
    log::{SetShardWeight, placement_answer::Result as Answer},
};
use conflux_raft::{FatalError, Read, Tx};

use super::{Effect, Stop, invalid, refuse};
use crate::store::{
    Family, Key,
    rows::{list, list_keys, load, save},
};

/// Of a shard whose first report names none.
pub const DEFAULT_WEIGHT: u32 = 100;
/// The largest weight.
pub const MAX_WEIGHT: u32 = 10_000;
/// Shard groups of a federation.
pub const MAX_GROUPS: usize = 1024;
/// Members of a group.
const MAX_MEMBERS: usize = 64;
/// The name of placement's own group.
const PLACEMENT: &str = "placement";

/// Whether a report tells more than what is known: of a later membership, or term, or another leader in the same.
pub fn tells_more(known: Option<&GroupRecord>, report: &GroupRecord) -> bool {
    let Some(known) = known else { return true };
    let (old, new) = ((known.log_index, known.term), (report.log_index, report.term));
    new > old || (new == old && (known.leader != report.leader || known.members != report.members))
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
