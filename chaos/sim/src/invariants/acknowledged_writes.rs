//! A write that was acknowledged is there in the end, at its revision, as its version, with its content.

use conflux_proto::store;
use conflux_shard::store::keys::Key;
use prost::Message;
use rocksdb::simulation::Contents;
use sha2::{Digest, Sha256};

use super::Evidence;
use crate::{
    clients::config_name,
    history::Ended,
    world::{disks, hosts},
};

pub fn check(evidence: &Evidence<'_>) -> Result<(), String> {
    for put in evidence.history.puts.borrow().iter().filter(|_| evidence.complete) {
        let (Ended::Done(written), Some(home)) = (&put.outcome, evidence.homes.get(&put.register.tenant)) else {
            continue;
        };
        let id = evidence.tenants[put.register.tenant].id;
        for member in hosts::members(home) {
            let state = disks::state(&member).ok_or_else(|| format!("{member} has no state"))?;
            let event = event(&state, id, written.revision);
            let name = config_name(put.register);
            let hash = hex::encode(Sha256::digest(put.content.as_bytes()));
            let right = event.as_ref().is_some_and(|(named, version, hashed)| {
                *named == name && *version == written.version && hashed.ends_with(&hash)
            });
            if !right {
                return Err(format!(
                    "{member} has {event:?} at revision {} of tenant {id}; acknowledged was {name} version {} \"{}\"",
                    written.revision, written.version, put.content
                ));
            }
        }
    }
    Ok(())
}

/// Name, version and hash of the event that made a version at this revision.
pub fn event(state: &Contents, tenant: u64, revision: u64) -> Option<(String, u64, String)> {
    let row = state.get("rows", &Key::Event { tenant, revision }.encode())?;
    let events = store::StoredRevision::decode(row).ok()?.events;
    events
        .into_iter()
        .filter_map(|stored| stored.event)
        .find(|event| event.version > 0)
        .map(|event| (event.name, event.version, event.hash))
}
