//! Writes and linearizable reads of a tenant happen in the order of their revisions, and that order is true to time: what began
//! after something had ended has a revision that is not lower (of a write: higher). And each read shows what the last write
//! at or below its revision had written.

use std::collections::BTreeMap;

use super::Evidence;
use crate::{
    clients::config_name,
    history::{Ended, Level, Moment, Register},
    world::{disks, hosts},
};

/// One call at its place in the order.
struct Placed<'e> {
    began: Moment,
    ended: Moment,
    revision: u64,
    is_write: bool,
    what: &'e str,
}

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for tenant in 0..evidence.tenants.len() {
        real_time(evidence, tenant)?;
        contents(evidence, tenant)?;
    }
    Ok(())
}

fn real_time(evidence: &Evidence<'_>, tenant: usize) -> Result<(), String> {
    let puts = evidence.history.puts.borrow();
    let fetches = evidence.history.fetches.borrow();
    let mut first_answers: BTreeMap<&str, ()> = BTreeMap::new();
    let mut calls: Vec<Placed<'_>> = Vec::new();
    for put in puts.iter().filter(|put| put.register.tenant == tenant) {
        if let Ended::Done(written) = &put.outcome {
            // A repetition is answered with the revision of the first.
            let first = first_answers.insert(&put.key, ()).is_none();
            let earlier_unknown =
                puts.iter().any(|p| p.key == put.key && p.began < put.began && matches!(p.outcome, Ended::Unknown));
            if first && !earlier_unknown {
                let (began, ended) = (put.began, put.ended);
                calls.push(Placed { began, ended, revision: written.revision, is_write: true, what: &put.content });
            }
        }
    }
    for fetch in fetches.iter().filter(|f| f.register.tenant == tenant && f.level == Level::Linearizable) {
        let (began, ended) = (fetch.began, fetch.ended);
        calls.push(Placed { began, ended, revision: fetch.revision, is_write: false, what: &fetch.member });
    }
    calls.sort_by_key(|call| call.ended);
    // For each call, the highest revision of what had ended before it began.
    for (at, call) in calls.iter().enumerate() {
        let before = calls[..at].iter().filter(|earlier| earlier.ended < call.began).max_by_key(|e| e.revision);
        if let Some(before) = before
            && (call.revision < before.revision || call.is_write && call.revision == before.revision)
        {
            return Err(format!(
                "tenant {tenant}: {} ({} to {} ms) is of revision {}, though {} had ended at {} ms with revision {}",
                call.what,
                call.began.at_ms,
                call.ended.at_ms,
                call.revision,
                before.what,
                before.ended.at_ms,
                before.revision
            ));
        }
    }
    Ok(())
}

fn contents(evidence: &Evidence<'_>, tenant: usize) -> Result<(), String> {
    let Some(home) = evidence.homes.get(&tenant).filter(|_| evidence.complete) else { return Ok(()) };
    let member = &hosts::members(home)[0];
    let state = disks::state(member).ok_or_else(|| format!("{member} has no state"))?;
    let id = evidence.tenants[tenant].id;
    for fetch in evidence.history.fetches.borrow().iter().filter(|f| f.register.tenant == tenant) {
        let Some((version, content)) = &fetch.found else { continue };
        let name = config_name(Register { tenant, config: fetch.register.config });
        let last = (1..=fetch.revision).rev().find_map(|revision| {
            super::acknowledged_writes::event(&state, id, revision).filter(|(named, ..)| *named == name)
        });
        let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content.as_bytes()));
        let right = last.as_ref().is_some_and(|(_, number, hashed)| number == version && hashed.ends_with(&hash));
        if !right {
            return Err(format!(
                "tenant {tenant}: {} showed {name} version {version} \"{content}\" at revision {}; then it was {last:?}",
                fetch.member, fetch.revision
            ));
        }
    }
    Ok(())
}
