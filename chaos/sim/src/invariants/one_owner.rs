//! A tenant has one owner in each epoch: no two shards ever have it active under the same one, and none takes writes under an
//! epoch that is another's. In the end the shard that placement names has it, and the other has not.

use std::collections::{BTreeMap, BTreeSet};

use super::Evidence;
use crate::{
    history::{Ended, Written},
    world::hosts,
};

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    let mut owners: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut claim = |tenant: u64, epoch: u64, shard: &str, how: &str| {
        let owner = owners.entry((tenant, epoch)).or_insert_with(|| shard.to_owned());
        let right = owner == shard;
        right.then_some(()).ok_or_else(|| format!("tenant {tenant} in epoch {epoch} is {owner}'s, but {shard} {how}"))
    };
    for observed in evidence.observed {
        for tenant in observed.tenants.iter().filter(|tenant| tenant.state == "active") {
            claim(tenant.id, tenant.epoch, hosts::group_of(&observed.member), "has it active")?;
        }
    }
    let mut keys = BTreeSet::new();
    for put in evidence.history.puts.borrow().iter() {
        // What is repeated under its key is answered as it was, epoch and all, wherever the tenant is by then.
        let first = keys.insert(put.key.clone());
        if let Ended::Done(Written { epoch, shard: Some(shard), .. }) = &put.outcome
            && first
        {
            claim(evidence.tenants[put.register.tenant].id, *epoch, shard, "acknowledged a write to it")?;
        }
    }
    if evidence.complete { in_the_end(evidence) } else { Ok(()) }
}

fn in_the_end(evidence: &Evidence<'_>) -> Result<(), String> {
    let mut last: BTreeMap<&str, &crate::observe::Observed> = BTreeMap::new();
    for observed in evidence.observed {
        last.insert(&observed.member, observed);
    }
    for (at, home) in evidence.homes {
        let id = evidence.tenants[*at].id;
        for (member, observed) in &last {
            let state = observed.tenants.iter().find(|t| t.id == id).map_or("absent", |t| t.state.as_str());
            let here = hosts::group_of(member) == home;
            let right = if here { state == "active" } else { !["active", "frozen", "prepared"].contains(&state) };
            if !right && hosts::group_of(member) != "placement" {
                return Err(format!("tenant {id} is placed on {home}, but on {member} it is {state}"));
            }
        }
    }
    Ok(())
}
