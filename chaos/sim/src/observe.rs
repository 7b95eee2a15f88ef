//! The states of all members, looked at from outside while they run.

use std::hash::{DefaultHasher, Hasher};

use conflux_proto::{log, store};
use conflux_shard::store::keys::Family;
use prost::Message;
use rocksdb::simulation::Contents;

use crate::world::{disks, hosts};

/// What one member had applied at one moment.
pub struct Observed {
    /// The member.
    pub member: String,
    /// When, in simulated milliseconds.
    pub at_ms: u64,
    /// The last applied index.
    pub index: u64,
    /// Of all rows of the application.
    pub hash: u64,
    /// The tenants that it has rows of; only of shards.
    pub tenants: Vec<store::Tenant>,
}

/// The last applied index.
pub fn applied(state: &Contents) -> Option<u64> {
    let last = disks::applied(state)?;
    log::LogId::decode(last.as_slice()).ok().map(|id| id.index)
}

fn hash(state: &Contents) -> u64 {
    // With the keys that it has by itself: the same in every process.
    let mut hasher = DefaultHasher::new();
    for (key, value) in state.rows("rows") {
        hasher.write_usize(key.len());
        hasher.write(key);
        hasher.write_usize(value.len());
        hasher.write(value);
    }
    hasher.finish()
}

/// The tenants' own rows in the state of a shard.
pub fn tenants(state: &Contents) -> Vec<store::Tenant> {
    let (from, to) = Family::Tenant.range();
    state.range("rows", &from, Some(&to)).filter_map(|(_, value)| store::Tenant::decode(value).ok()).collect()
}

/// Every member that has a state.
pub fn all(at_ms: u64) -> Vec<Observed> {
    hosts::all().into_iter().filter_map(|member| one(member, at_ms)).collect()
}

fn one(member: String, at_ms: u64) -> Option<Observed> {
    let state = disks::state(&member)?;
    let index = applied(&state)?;
    let tenants = if hosts::group_of(&member) == "placement" { Vec::new() } else { tenants(&state) };
    Some(Observed { at_ms, index, hash: hash(&state), tenants, member })
}
