//! A write that was refused has no effect, and no write has two: by the contents, each of which only one write has.

use std::collections::BTreeMap;

use conflux_proto::store;
use conflux_shard::store::keys::Family;
use prost::Message;
use sha2::{Digest, Sha256};

use super::Evidence;
use crate::{
    history::Ended,
    world::{disks, hosts},
};

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for (at, home) in evidence.homes.iter().filter(|_| evidence.complete) {
        let id = evidence.tenants[*at].id;
        let member = &hosts::members(home)[0];
        let state = disks::state(member).ok_or_else(|| format!("{member} has no state"))?;
        let (from, to) = Family::Version.tenant_range(id);
        let mut versions: BTreeMap<bytes::Bytes, u64> = BTreeMap::new();
        for (_, row) in state.range("rows", &from, Some(&to)) {
            let version = store::Version::decode(row).map_err(|e| e.to_string())?;
            *versions.entry(version.sha256).or_default() += 1;
        }
        for put in evidence.history.puts.borrow().iter().filter(|put| put.register.tenant == *at) {
            let count = versions.get(&Sha256::digest(put.content.as_bytes())[..]).copied().unwrap_or(0);
            // Whether another call with the same key was done says its own entry.
            let tried_again = || {
                let puts = evidence.history.puts.borrow();
                puts.iter().any(|other| other.key == put.key && !matches!(other.outcome, Ended::Refused(_)))
            };
            match &put.outcome {
                Ended::Refused(code) if count > 0 && !tried_again() => {
                    return Err(format!("\"{}\" was refused ({code:?}) and is a version", put.content));
                }
                _ if count > 1 => return Err(format!("\"{}\" is {count} versions", put.content)),
                _ => {}
            }
        }
    }
    Ok(())
}
